"""The interval given a pick is right where the plain one is not, and plain without one."""

import numpy as np
import pytest
from scipy.stats import norm

from replay_jax.analysis.noise.conditional import Conditional, conditional_interval

NOISE = 0.02
LEVEL = 0.9


def resampled(means: np.ndarray, seed: int = 0, count: int = 2000) -> np.ndarray:
    return means + NOISE * np.random.default_rng(seed).standard_normal((count, len(means)))


def ends(means: list[float], own: int) -> np.ndarray:
    drawn = resampled(np.array(means), count=20_000)
    found = conditional_interval(np.array(means), drawn, own, level=LEVEL)
    return np.array([found.low, found.value, found.high])


def plain(difference: float) -> np.ndarray:
    return difference + np.sqrt(2) * NOISE * norm.ppf([0.05, 0.5, 0.95])


def test_without_a_choice_or_far_from_one_it_is_the_plain_interval():
    for own, *means in (1, 3.5, 3.6), (2, 3.5, 3.9, 3.6, 4.0), (1, 3.5, 3.6, 3.9, 3.8):
        assert ends(means, own) == pytest.approx(plain(0.1), abs=0.1 * NOISE)


def test_a_near_tie_takes_more_from_the_value_than_a_clear_pick():
    clear, near = ends([3.5, 3.56, 3.6], 2), ends([3.5, 3.505, 3.6], 2)
    assert near[1] < clear[1] < plain(0.1)[1] + 0.1 * NOISE
    assert near[2] - near[0] > clear[2] - clear[0]


def test_it_holds_its_level_where_the_plain_interval_does_not():
    rng = np.random.default_rng(5)
    noise = resampled(np.zeros(13), seed=1)
    held, above, naive = [], [], []
    for _ in range(150):
        means = NOISE * rng.standard_normal(13)
        found = conditional_interval(means, noise, 12, level=LEVEL)
        held.append(found.low <= 0 <= found.high)
        above.append(found.value > 0)
        low, _, high = plain(means[12] - means[:12].min())
        naive.append(low <= 0 <= high)
    assert np.mean(naive) < 0.7  # the best of twelve equals is lucky
    assert 0.83 <= np.mean(held) <= 0.97 and 0.38 <= np.mean(above) <= 0.62  # three errors


def test_near_a_tie_it_never_shrinks_to_a_point():
    """A tie says that the pick was as lucky as can be, and puts both ends at the far end."""
    reach = 3.5 * np.sqrt(2) * NOISE
    for apart in (0.0, 1e-12, 1e-6, 1e-4, 1e-3, 0.01):
        low, value, high = ends([3.5, 3.5 + apart, 3.6], 2)
        assert 0.1 - reach < low < value < high < 0.1 + reach
        assert high - low > 0.5 * np.ptp(plain(0.1))


def test_two_cells_of_the_same_runs_are_no_choice():
    means = np.array([3.5, 3.5, 3.6])
    drawn = resampled(means)
    drawn[:, 1] = drawn[:, 0]
    found = conditional_interval(means, drawn, 2, level=LEVEL)
    assert [found.low, found.value, found.high] == pytest.approx(plain(0.1), abs=0.1 * NOISE)


def test_where_nothing_varies_it_is_the_difference():
    means = np.array([3.5, 3.6, 3.75])
    found = conditional_interval(means, np.tile(means, (50, 1)), 2, level=LEVEL)
    assert found == Conditional(*[pytest.approx(0.25)] * 3)


def test_students_tails_make_it_no_wider_than_their_own_interval():
    means = np.array([3.5, 3.9, 3.6])
    rng = np.random.default_rng(4)
    tails = np.sqrt(3 / rng.chisquare(3, (20_000, 1)))
    drawn = means + NOISE * tails * rng.standard_normal((20_000, 3))
    found = conditional_interval(means, drawn, 2, level=LEVEL)
    straight = np.ptp(np.quantile(drawn[:, 2] - drawn[:, 0], [0.05, 0.95]))
    assert found.high - found.low == pytest.approx(straight, rel=0.05)


def test_noise_that_is_hardly_known_does_no_harm():
    """Of one seed the scatter about the law tells the noise, so resamples have a Cauchy's tails."""
    rng = np.random.default_rng(2)
    for draw in range(20):
        means = 3.5 + NOISE * rng.standard_normal(8)
        noise = rng.standard_normal((400, 8)) * NOISE / np.sqrt(rng.chisquare(1, (400, 1)))
        found = conditional_interval(means, means + noise, 5, level=LEVEL)
        assert -np.inf < found.low < found.value < found.high < np.inf, draw
