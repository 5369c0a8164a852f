"""Intervals of resamples, and whether a law misses its points."""

import numpy as np
import pytest

from replay_jax.analysis.statistics.bootstrap import interval, lack_of_fit


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
