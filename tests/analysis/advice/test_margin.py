"""An equivalence margin: the same, where the whole interval of the gain is smaller than it."""

from dataclasses import replace

import pytest

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.advice.shipping import ship
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.errors import UserError

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)


@pytest.fixture(scope="module")
def records():
    return sweep(worth=lambda rho: 1.0, noise=0.001)


def answer(records, margin):
    return recommend(analyse(records, replace(CONFIG, margin=margin), resamples=100))


def test_a_whole_interval_within_the_margin_is_the_same(records):
    plain = answer(records, 0.0)
    reach = max(abs(plain.gain.low), abs(plain.gain.high))
    assert plain.verdict == "cannot tell" and reach < 0.01
    found = answer(records, 1.01 * reach)
    assert (found.verdict, found.judgement.ground) == ("the same", "interval")
    assert found.gain == plain.gain  # nothing but what it is called has changed
    assert f"the same within {1.01 * reach:g} nat" in found.sentence
    assert "lies within the margin" in found.reasons[0]
    assert answer(records, 0.99 * reach).verdict == "cannot tell"


def test_a_gain_that_is_certain_and_small_is_the_same_too():
    records = sweep(worth=lambda rho: 1 + 0.1 * rho, noise=0.0005)
    assert answer(records, 0.0).verdict == "replay helps"
    assert answer(records, 0.1).verdict == "the same"


def test_unequal_training_is_never_the_same(records):
    longer = [
        {**r, "total_steps": 1024 if r["replay_fraction"]["requested"] else r["total_steps"]}
        for r in records
    ]
    assert answer(longer, 0.1).verdict == "cannot tell"


def test_a_gate_asks_for_its_own_margin(records):
    study = analyse(records, replace(CONFIG, margin=0.1), resamples=100)
    best = recommend(study).best
    assert ship(study.target(), best, run="x", margin=0.05, generic_margin=None).verdict == "worse"


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_what_is_no_margin_is_refused(margin):
    with pytest.raises(UserError, match="analysis.margin must be"):
        replace(CONFIG, margin=margin)
