"""Intervals that condition on a pick, and how kinds of interval are judged side by side."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from places import ROOT
from scipy.stats import norm

sys.path.insert(0, str(ROOT / "tools"))
from calibration_scenarios import PARTS, REFERENCES
from conditional_intervals import conditional_interval
from side_by_side import outcome, side_by_side

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse

NOISE = 0.02
LEVEL = 0.9


def resampled(means: np.ndarray, seed: int = 0) -> np.ndarray:
    return means + NOISE * np.random.default_rng(seed).standard_normal((2000, len(means)))


def ends(means: list[float], own: int) -> np.ndarray:
    found = conditional_interval(np.array(means), resampled(np.array(means)), own, level=LEVEL)
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


def test_what_is_told_of_intervals_is_their_share_that_holds_and_errs():
    intervals = [(-0.01, 0.02, 0.05), (0.01, 0.03, 0.05), (-0.05, -0.03, -0.01), (0.01, 0.02, 0.03)]
    ways = [dict.fromkeys(("shrunk", "conditional", "measured"), ends) for ends in intervals]
    truths = [(0.0, 0.0), (0.03, 0.03), (-0.03, 0.0), (0.04, 0.04)]
    told = outcome([*ways, {}], [*truths, (0.0, 0.0)])
    assert told["shrunk"] == told["measured"] == {
        "held": 0.75, "width": 0.04, "error": pytest.approx(np.sqrt(8e-4 / 4), abs=1e-4),
        "helps": 0.5, "false": 0.25,
    }  # fmt: skip
    assert outcome([{}], [(0.0, 0.0)]) == {}


def test_a_study_has_what_it_prints_beside_the_others():
    for scenario in (PARTS["tuning"][0], PARTS["fresh"][1]):
        study = analyse(scenario.records(7), REFERENCES[scenario.reference], resamples=200, seed=7)
        found, target = recommend(study), study.target()
        ways = side_by_side(target, found)
        assert ways["shrunk"] == (found.gain.low, found.gain.value, found.gain.high)
        tuned = target.draws.luck[found.baseline] - target.draws.luck[found.best]
        assert ways["measured"][1] == pytest.approx(found.rival.measured + tuned)
        assert ways["conditional"][0] < ways["conditional"][1] < ways["conditional"][2]
        luckier = target.draws.luck.copy()
        luckier[found.baseline] += 0.5
        moved = side_by_side(replace(target, draws=replace(target.draws, luck=luckier)), found)
        assert np.subtract(moved["conditional"], ways["conditional"]) == pytest.approx(0.5)
        assert moved["measured"][1] - ways["measured"][1] == pytest.approx(0.5)


def test_where_the_noise_is_unknown_there_is_none():
    records = sweep(worth=lambda rho: 1.0, budgets=(4096,), seeds=(0,))
    study = analyse(records, REFERENCES["uniform"], resamples=50)
    assert side_by_side(study.target(), recommend(study)) == {}
