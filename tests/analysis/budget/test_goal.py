"""When a goal is reached: widths at the level that is reported, verdicts at half the doubt."""

import dataclasses

import pytest

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.budget.goal import Goal, find
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse

CONFIG = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)


def worth_of(records, level=0.9):
    study = analyse(records, dataclasses.replace(CONFIG, level=level), resamples=200)
    return recommend_every_group(study, "gsm8k")[0]


@pytest.fixture(scope="module")
def records():
    return sweep(
        worth=lambda rho: 1 + rho, reference="no replay", replay_fractions=(0.0, 0.5),
        epochs=(16.0,), budgets=(1024, 2048, 4096, 8192),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["x", "nat"])
def test_a_width_is_reached_when_the_interval_that_is_reported_is_narrower(records, kind):
    answer = worth_of(records)
    ends = answer.multiplier if kind == "x" else answer.gain
    width = ends.high / ends.low if kind == "x" else ends.high - ends.low
    for factor, reached in ((1.001, True), (0.999, False)):
        found = find(records, CONFIG, Goal(kind, width * factor), questions=1, resamples=200)
        assert found.is_reached is reached
    assert not find(records, CONFIG, Goal(kind, 9e9), questions=2, resamples=200).is_reached


def test_a_verdict_needs_the_wider_interval(records):
    """A gain is put where the interval that is reported clears zero and the wider one does not."""
    narrow, wide = worth_of(records).gain, worth_of(records, 0.95).gain
    assert wide.low < narrow.low
    shift = (wide.low + narrow.low) / 2
    moved = [
        {**r, "losses": {**r["losses"], "target": r["losses"]["target"] + shift}}
        if r["replay_fraction"]["realised"]
        else r
        for r in records
    ]
    assert worth_of(moved).verdict == "replay helps"
    assert not find(moved, CONFIG, Goal("verdict"), questions=1, resamples=200).is_reached
    assert find(records, CONFIG, Goal("verdict"), questions=1, resamples=200).is_reached


def test_an_answer_beyond_the_reference_is_noticed(records):
    inside = find(records, CONFIG, Goal("verdict"), questions=1, resamples=200)
    short = [r for r in records if r["target_tokens"] <= 4096]
    beyond = find(short, CONFIG, Goal("verdict"), questions=1, resamples=200)
    assert inside.beyond == {}
    assert beyond.beyond == {"gsm8k": True} and "4,096 tokens" in beyond.words


def test_too_few_runs_say_why_they_are_too_few():
    found = find([], CONFIG, Goal("verdict"), questions=1)
    assert not found.is_reached and "no finished runs" in found.words
