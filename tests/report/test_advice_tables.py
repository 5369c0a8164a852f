"""Tables and tiles of the advice: what every number is against, and every run as it would be."""

from dataclasses import replace

import pytest
from fake_records import FakeStudy, FakeTarget, fake_records
from fake_report import CONFIG

from replay_jax.analysis.advice.next_runs import NextRuns
from replay_jax.analysis.advice.verdict import HURTS
from replay_jax.analysis.study.analyse import analyse
from replay_jax.report.advice import advise
from replay_jax.report.answer import answers, next_runs
from replay_jax.report.elements.words import times


@pytest.fixture(scope="module")
def small():
    study = analyse(fake_records(FakeStudy(seeds=(0, 1))), CONFIG, resamples=100)
    return study, advise(study)


def column(table, title):
    place = [each.title for each in table.columns].index(title)
    return [row.cells[place] for row in table.rows]


def test_every_answer_names_what_it_is_against(small):
    study, advice = small
    found = sorted(advice["gsm8k"], key=lambda each: each.target_tokens)
    table = answers(study, advice)[0].groups
    for each, words in zip(found, column(table, "against"), strict=True):
        assert words and words in each.rival.words
    assert column(table, "worth") == [times(each.multiplier) for each in found]
    assert "Generic loss is at equal epochs where both ran them." in table.words


@pytest.mark.parametrize("mixtures_too", [False, True])
def test_losses_of_another_schedule_than_the_one_to_use_say_whose_they_are(small, mixtures_too):
    harmful = FakeTarget("harmful", 3.0, 1.0, 0.4, 0.001, 0.0, 0.25, 0.1)
    records = fake_records(FakeStudy((harmful,), allocations=(1.0,), noise=0.002))
    for record in records:
        worse = 3 * (record["replay_fraction"]["requested"] or 0)
        worse += 2 * (record["protocol"] == "uniform" and not mixtures_too)
        record["losses"]["target"] += 0.3 * worse
    study = analyse(records, CONFIG, resamples=100)
    advice = advise(study)
    found = advice["harmful"][0]
    own = found.answered.own.replay_fraction
    assert found.verdict == HURTS and found.replay_fraction.value == (None if mixtures_too else 0)
    shown, *others = answers(study, advice)[0].tiles
    assert (shown.label, shown.value) == (
        ("schedule", "a constant mixture") if mixtures_too else ("replay fraction ρ", "0")
    )
    assert len(others) == 3
    assert all(f"of ρ\u00a0=\u00a0{own:g} " in tile.label for tile in others)
    assert not any("of ρ" in tile.label for tile in answers(*small)[0].tiles)


def test_every_run_to_add_has_a_row_of_its_own(small):
    study, advice = small
    target = {"data.target": "gsm8k"}
    mixture = {"schedule.protocol": "uniform", "schedule.replay_fraction": None}
    two = {"schedule.replay_fraction": 0.5, "schedule.target_epochs": 32.0}
    option = NextRuns(
        "two more seeds",
        "multiplier",
        0.87,
        tuple({**target, **run, "seed": seed} for seed in (3, 4) for run in (mixture, two)),
    )
    first = replace(advice["gsm8k"][0], next_runs=(option,))
    (table,) = next_runs(study, {"gsm8k": (first,)})
    assert column(table, "settings") == [
        "constant mixture; seed 3, 4",
        "schedule.replay_fraction 0.5; schedule.target_epochs 32; seed 3, 4",
    ]
    assert column(table, "runs") == ["2", "2"]
    assert column(table, "why") == ["two more seeds", ""]
    assert column(table, "interval then") == ["87 %", ""]
    assert table.words.startswith("All: data.target gsm8k. ")
