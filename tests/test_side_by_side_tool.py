"""How kinds of interval of one gain are judged side by side."""

import sys

import numpy as np
import pytest
from places import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from calibration_scenarios import PARTS, REFERENCES
from side_by_side import outcome, side_by_side

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse


def test_what_is_told_of_intervals_is_their_share_that_holds_and_errs():
    intervals = [(-0.01, 0.02, 0.05), (0.01, 0.03, 0.05), (-0.05, -0.03, -0.01), (0.01, 0.02, 0.03)]
    kinds = "shrunk", "moved", "conditional", "measured"
    ways = [dict.fromkeys(kinds, ends) for ends in intervals]
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
        fifth = 0.2 * (ways["conditional"][1] - found.gain.value)
        assert np.subtract(ways["moved"], ways["shrunk"]) == pytest.approx(fifth)
        assert ways["conditional"][0] < ways["conditional"][1] < ways["conditional"][2]


def test_where_the_noise_is_unknown_there_is_none():
    records = sweep(worth=lambda rho: 1.0, budgets=(4096,), seeds=(0,))
    study = analyse(records, REFERENCES["uniform"], resamples=50)
    assert side_by_side(study.target(), recommend(study)) == {}
