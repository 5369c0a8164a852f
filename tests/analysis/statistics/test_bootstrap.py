"""Intervals of resamples."""

import numpy as np

from replay_jax.analysis.statistics.bootstrap import interval


def test_interval_counts_undefined_against_both_ends():
    values = np.concatenate([np.linspace(0, 1, 900), np.full(100, np.nan)])
    assert interval(values, level=0.9) == (-np.inf, np.inf)
    low, high = interval(np.arange(1000.0), level=0.9)
    assert (low, high) == (50.0, 949.0)
    assert interval(np.array([1.0] * 96 + [np.inf] * 4), level=0.9)[1] == 1.0
