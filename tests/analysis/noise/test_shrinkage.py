"""The best of several means is freed of the luck of having been picked, and of no more."""

import numpy as np
import pytest

from replay_jax.analysis.noise import shrinkage
from replay_jax.analysis.noise.shrinkage import Family, shrink

NOISE = 0.02
SIX_AND_ONE = (Family(tuple(range(6))), Family((6,)))


def resampled(means, rng, noise=NOISE):
    return means + noise * rng.standard_normal((2000, len(means)))


def lucks(truth, families, studies=60):
    """Errors of the best of the first family, measured and freed [studies, 2], in nats."""
    rng = np.random.default_rng(0)
    first, found = list(families[0].members), []
    for _ in range(studies):
        means = truth + NOISE * rng.standard_normal(len(truth))
        best = min(first, key=lambda i: means[i])
        shrunk = shrink(means, resampled(means, rng), families)
        freed = means[best] + shrunk.moved[first.index(best)]
        found.append((means[best] - truth[best], freed - truth[best]))
    return np.array(found)


def test_a_mean_that_nothing_was_picked_from_stays():
    means = np.array([3.0, 3.1])
    drawn = resampled(means, np.random.default_rng(0))
    shrunk = shrink(means, drawn, (Family((1,)), Family((0,))))
    np.testing.assert_array_equal(shrunk.drawn, drawn[:, [1, 0]])
    assert not shrunk.moved.any()
    still = np.tile(means, (50, 1))
    np.testing.assert_array_equal(shrink(means, still, (Family((0, 1)),)).drawn, still)


def test_the_best_of_equals_loses_most_of_its_luck_and_the_best_by_far_none():
    measured, freed = lucks(np.full(7, 3.0), SIX_AND_ONE).mean(axis=0)
    assert measured == pytest.approx(-1.27 * NOISE, abs=0.004)  # of six normal values the least
    assert abs(freed) < 0.5 * abs(measured)
    far = np.array([2.7, 3.0, 3.02, 3.15, 3.3, 3.1, 3.0])
    errors = lucks(far, SIX_AND_ONE)
    assert np.abs(errors[:, 1] - errors[:, 0]).max() < 0.35 * NOISE


def test_one_that_stands_apart_from_equals_keeps_its_lead():
    """A normal scatter alone takes .6 of a deviation of noise from a lead of eight."""
    truth = np.array([3.0 - 8 * NOISE, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0])
    _, freed = lucks(truth, SIX_AND_ONE).mean(axis=0)
    assert abs(freed) < 0.3 * NOISE


@pytest.mark.parametrize("apart", [0.03, 0.3, 3.0])
def test_however_far_apart_members_are_nothing_moves(apart):
    means = np.array([3.0 - apart, 3.0, 2.5])
    drawn = resampled(means, np.random.default_rng(0), noise=0.001)
    shrunk = shrink(means, drawn, (Family((0, 1)), Family((2,))))
    assert np.abs(shrunk.moved).max() < 0.3 * 0.001


def test_it_is_the_posterior_of_a_family_with_known_scatter(monkeypatch):
    """Against the normal posterior by precisions, flat in the family's mean."""
    monkeypatch.setattr(shrinkage, "_RATIOS", (1.5, 1e-9))  # apart by nothing is not apart
    monkeypatch.setattr(shrinkage, "_prior", lambda scale: np.array([1.0, 1e-300]))
    rng = np.random.default_rng(1)
    root = rng.standard_normal((4, 4)) * NOISE
    means = np.array([3.0, 3.05, 2.97, 3.1])
    drawn = means + rng.standard_normal((200_000, 4)) @ root.T
    shrunk = shrink(means, drawn, (Family((0, 1, 2)), Family((3,))))
    noise = np.cov(drawn, rowvar=False)
    within = np.zeros((4, 4))
    within[:3, :3] = np.eye(3) - 1 / 3
    scatter = 1.5**2 * np.trace(within @ noise) / 2
    precision = np.linalg.inv(noise)
    covariance = np.linalg.inv(precision + within / scatter)
    np.testing.assert_allclose(means + shrunk.moved, covariance @ precision @ means, atol=1e-7)
    np.testing.assert_allclose(shrunk.drawn.mean(axis=0), means + shrunk.moved, atol=3e-4)
    np.testing.assert_allclose(np.cov(shrunk.drawn, rowvar=False), covariance, atol=2e-5)


def test_what_members_share_is_no_luck():
    """Three fractions at each of three allocations: only the allocation matters, and a lot."""
    truth = np.array([2.7, 3.0, 3.3] * 3 + [3.0])
    members = tuple(range(9))
    shares = (tuple("abc" * 3), tuple("xxxyyyzzz"))
    families = (Family(members, factors=shares), Family((9,), factors=(("d",), ("w",))))
    measured, freed = np.abs(lucks(truth, families).mean(axis=0))
    assert measured > 0.7 * NOISE and freed < 0.5 * measured
    (_, apart) = np.abs(lucks(truth, (Family(members), Family((9,)))).mean(axis=0))
    assert apart > freed + 0.2 * NOISE


def test_what_an_allocation_gains_both_sides_cancels_between_them():
    """Of nine that replay and three that do not: only the earliest allocation is better, alike."""
    truth = np.tile([2.95, 3.0, 3.03], 4)
    fractions = tuple("aaabbbcccddd")
    ours = (tuple(range(9)), (fractions[:9], tuple("xyz" * 3)))
    theirs = (tuple(range(9, 12)), (fractions[9:], tuple("xyz")))
    alone = (theirs[0], (fractions[9:], tuple("uvw")))
    errors = {}
    for name, rivals in (("shared", theirs), ("alone", alone)):
        rng, found = np.random.default_rng(4), []
        for _ in range(100):
            means = truth + NOISE * rng.standard_normal(12)
            drawn = resampled(means, rng)[:400]
            freed = means + shrink(means, drawn, (Family(*ours), Family(*rivals))).moved
            found.append(freed[9 + means[9:].argmin()] - freed[means[:9].argmin()])
        errors[name] = np.array(found)  # the best of either side is worth the same
    rms = {name: np.sqrt((each**2).mean()) for name, each in errors.items()}
    assert rms["shared"] < NOISE and rms["shared"] < 0.85 * rms["alone"]


def test_the_same_resamples_give_the_same():
    means = np.array([3.0, 3.01, 3.02])
    drawn = resampled(means, np.random.default_rng(2))
    first, second = (shrink(means, drawn, (Family((0, 1, 2)),)) for _ in range(2))
    np.testing.assert_array_equal(first.drawn, second.drawn)
    assert first.drawn.std(axis=0).max() < drawn.std(axis=0).min()  # they tell of each other
