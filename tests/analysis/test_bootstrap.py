"""Noise between seeds and resamples that carry it."""

import numpy as np
import pytest

from replay_jax.analysis.statistics.bootstrap import (
    Noise,
    cell_means,
    constant_noise,
    estimate_noise,
    interval,
    lack_of_fit,
    resample_means,
)
from replay_jax.errors import UserError


def draw(cells: int, seeds: int, *, own: float, shared: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    levels = np.linspace(2, 4, cells)[:, None]
    noise = own * rng.standard_normal((cells, seeds))
    return levels + noise + shared * rng.standard_normal(seeds)


def test_own_and_shared_noise_are_told_apart():
    losses = draw(60, 40, own=0.01, shared=0.05)
    noise = estimate_noise(losses)
    assert noise.known and noise.pooled
    assert noise.freedom[0] == 59 * 39
    np.testing.assert_allclose(np.sqrt(noise.cell), 0.01, rtol=0.05)
    assert np.sqrt(noise.shared) == pytest.approx(0.05, rel=0.3)
    assert noise.shared_freedom == 39


def test_pooled_variance_is_the_two_way_residual():
    losses = draw(4, 3, own=0.02, shared=0.1)
    residuals = (
        losses - losses.mean(1, keepdims=True) - losses.mean(0, keepdims=True) + losses.mean()
    )
    expected = (residuals**2).sum() / (3 * 2)
    np.testing.assert_allclose(estimate_noise(losses).cell, expected)


def test_missing_runs_keep_the_estimate_honest():
    losses = draw(40, 10, own=0.01, shared=0.05)
    losses[::3, ::4] = np.nan
    noise = estimate_noise(losses)
    np.testing.assert_allclose(np.sqrt(noise.cell), 0.01, rtol=0.15)
    assert noise.freedom[0] == np.isfinite(losses).sum() - 40 - 9


def test_seeds_that_never_meet_are_not_compared():
    losses = np.full((4, 4), np.nan)
    losses[:2, :2] = [[2.0, 2.1], [3.0, 3.12]]
    losses[2:, 2:] = [[1.0, 1.5], [4.0, 4.52]]
    noise = estimate_noise(losses)
    assert noise.freedom[0] == 2  # one per pair of cells
    np.testing.assert_allclose(noise.cell, 2 * (0.01**2) / 2, rtol=1e-6)


def test_a_single_seed_says_nothing():
    noise = estimate_noise(draw(5, 1, own=0.1, shared=0.1))
    assert not noise.known and np.isnan(noise.cell).all()


def test_a_cell_with_one_run_borrows_the_pool():
    losses = draw(5, 3, own=0.02, shared=0.0)
    losses[2, 1:] = np.nan
    noise = estimate_noise(losses)
    assert noise.cell[2] == pytest.approx(noise.cell[0])


def test_clearly_uneven_noise_is_not_pooled_away():
    rng = np.random.default_rng(3)
    scale = np.array([0.2] * 4 + [0.01] * 12)
    losses = 3 + scale[:, None] * rng.standard_normal((16, 6))
    noise = estimate_noise(losses)
    assert not noise.pooled
    assert np.sqrt(noise.cell[:4].mean() / noise.cell[4:].mean()) > 3


def test_empty_cell_is_refused():
    with pytest.raises(UserError, match="cell 1 has no finite loss"):
        estimate_noise(np.array([[1.0, 2.0], [np.nan, np.nan]]))


def test_resamples_have_the_mean_and_students_spread():
    losses = draw(3, 4, own=0.05, shared=0.0)
    noise = constant_noise(0.05**2, 5.0, 3)
    means = resample_means(losses, noise, np.random.default_rng(0), resamples=200_000)
    np.testing.assert_allclose(means.mean(0), cell_means(losses), atol=5e-4)
    # Student's t with 5 degrees of freedom has variance 5/3; four seeds halve the deviation.
    np.testing.assert_allclose(means.std(0), 0.025 * np.sqrt(5 / 3), rtol=0.02)


def test_a_seed_moves_all_its_cells_together():
    losses = draw(2, 4, own=0.01, shared=0.3)
    noise = Noise(np.full(2, 1e-4), np.array([50.0]), True, 0.09, 30.0, known=True)
    means = resample_means(losses, noise, np.random.default_rng(0), resamples=20_000)
    assert np.corrcoef(means.T)[0, 1] > 0.99
    assert (means[:, 0] - means[:, 1]).std() == pytest.approx(0.005 * np.sqrt(2), rel=0.05)


def test_interval_counts_undefined_against_both_ends():
    values = np.concatenate([np.linspace(0, 1, 900), np.full(100, np.nan)])
    assert interval(values, level=0.9) == (-np.inf, np.inf)
    low, high = interval(np.arange(1000.0), level=0.9)
    assert (low, high) == (50.0, 949.0)
    assert interval(np.array([1.0] * 96 + [np.inf] * 4), level=0.9)[1] == 1.0


def test_lack_of_fit_needs_evidence_and_finds_the_excess():
    rng = np.random.default_rng(0)
    variances = np.full(8, 1e-4)
    line = np.vander(np.arange(8.0), 2)
    noise = 0.01 * rng.standard_normal((500, 8))
    residuals = noise - (line @ np.linalg.lstsq(line, noise.T, rcond=None)[0]).T
    quiet = [lack_of_fit(row, variances, parameters=2, freedom=40) for row in residuals]
    assert np.mean(np.array(quiet) > 0) < 0.15
    loud = lack_of_fit(np.array([0.1, -0.1] * 4), variances, parameters=2, freedom=40)
    assert loud == pytest.approx(0.08 / 6 - 1e-4)
    assert lack_of_fit(np.ones(3), np.ones(3), parameters=3, freedom=9) == 0
