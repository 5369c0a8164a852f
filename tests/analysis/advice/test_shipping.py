"""The gate: better, worse or unknown, with margins on both losses and the pick counted."""

import math

import pytest

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.advice.shipping import ship
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.errors import UserError

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
# The gain of .5 over the constant mixture: ln's slope of 40 / x^.5 + 3 at 4,096 tokens, times 1.8.
GAIN = 40 / 64 * (1 - 1.8**-0.5)


def study_of(worth, **changes):
    return analyse(sweep(worth=worth, **changes), CONFIG, resamples=200).target()


@pytest.fixture(scope="module")
def found():
    return study_of(lambda rho: 0.8 + 2 * rho, replay_fractions=(0.0, 0.25, 0.5))


def place(found, rho):
    keys = [(cell.key.replay_fraction, cell.key.protocol) for cell in found.cells]
    return keys.index((rho, "two_stage"))


@pytest.mark.parametrize(
    ("margin", "generic", "verdict", "forgets"),
    [
        (0.0, None, "better", "not asked"),
        (GAIN - 0.06, None, "better", "not asked"),
        (GAIN, None, "cannot tell", "not asked"),
        (GAIN + 0.06, None, "worse", "not asked"),
        (0.0, 0.65, "better", "no more than asked"),
        (0.0, 0.585, "cannot tell", "cannot tell"),
        (0.0, 0.55, "worse", "more than asked"),
    ],
)
def test_both_margins_are_met_by_whole_intervals(found, margin, generic, verdict, forgets):
    """Replay of .5 gains GAIN over the constant mixture and costs .6 of generic loss."""
    said = ship(found, place(found, 0.5), run="best", margin=margin, generic_margin=generic)
    assert (said.verdict, said.forgets) == (verdict, forgets)
    assert said.comparison.gain.value == pytest.approx(GAIN, abs=0.03)
    assert said.sentence.startswith(verdict.capitalize()) and "a constant mixture" in said.sentence
    assert "(16 epochs; asked:" in said.sentence  # a mixture has no allocation to name
    assert said.to_json()["baseline"] == "a constant mixture" and said.baseline_runs


def test_the_best_is_judged_as_the_recommendation_judges_it(found):
    cell = place(found, 0.5)
    whole = analyse(sweep(worth=lambda rho: 0.8 + 2 * rho, replay_fractions=(0.0, 0.25, 0.5)),
                    CONFIG, resamples=200)  # fmt: skip
    said = ship(found, cell, run="x", margin=0.0, generic_margin=None)
    assert said.comparison == recommend(whole).rival


def test_what_was_not_picked_is_compared_alone_and_a_baseline_with_the_next(found):
    other = ship(found, place(found, 0.25), run="x", margin=0.0, generic_margin=None)
    gain = 40 / 64 * (1 - 1.3**-0.5)
    assert other.comparison.gain.low < gain < other.comparison.gain.high
    own = ship(found, place(found, 0.0), run="x", margin=0.0, generic_margin=None)
    assert own.comparison.against != place(found, 0.0)


def test_one_seed_and_what_is_no_margin():
    alone = study_of(lambda rho: 0.8 + 2 * rho, seeds=(0,))
    said = ship(alone, place(alone, 0.75), run="x", margin=0.0, generic_margin=None)
    assert said.verdict == "cannot tell" and "one seed" in said.sentence
    with pytest.raises(UserError, match="margin is nan"):
        ship(alone, place(alone, 0.75), run="x", margin=math.nan, generic_margin=None)
