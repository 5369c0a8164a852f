"""The paper's own values beside those of a study: of its target, or of all where it has another."""

import json
from pathlib import Path

from fake_records import GSM8K, FakeStudy, fake_records
from fake_report import CONFIG

import replay_jax.report.tables.published_table as module
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.records import PUBLISHED
from replay_jax.report.elements.words import between, times
from replay_jax.report.tables.published_table import published_table

RECORDS = fake_records(FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0, 0.5), epochs=(16.0,)))


def asking(published, target=None):
    """The records of a study that asks what the paper asks, of one of its targets if named."""
    found = []
    for record in RECORDS:
        analysis = {"analysis": {"published": published}}
        found.append({**record, "config": {**record["config"], **analysis}})
        if target is not None:
            found[-1]["target"] = target
    return found


def table_of(records):
    (study,) = analyse_anyway(records, CONFIG).targets
    return study, published_table(study, records)


def test_every_part_that_may_be_named_has_values():
    parts = json.loads(Path(module.__file__).with_name("published.json").read_text())
    assert tuple(sorted(parts)) == PUBLISHED[1:]


def test_a_study_that_names_nothing_has_no_table():
    assert table_of(RECORDS)[1] is None
    assert table_of(asking(""))[1] is None


def test_values_stand_beside_the_best_of_their_kind():
    study, table = table_of(asking("mid_training", "flan"))
    assert [(row.cells[0], row.cells[3]) for row in table.rows] == [
        ("flan", "3.444"), ("flan", "3.358"), ("flan", "3.295"),
    ]  # fmt: skip
    assert "no uncertainty published" in table.words and "other text" not in table.words
    budget = min(c.key.target_tokens for c in study.cells if c.key.replay_fraction > 0
                 and c.key.protocol == "two_stage")  # fmt: skip
    cells = [c for c in study.cells if c.key.target_tokens == budget
             and c.key.protocol == "two_stage"]  # fmt: skip
    late = [c for c in cells if c.key.allocation == 1]

    def lowest(chosen):
        return between(min(chosen, key=lambda c: c.target_loss.value).target_loss, ".3f")

    assert [row.cells[5] for row in table.rows] == [
        lowest([c for c in late if c.key.replay_fraction == 0]),
        lowest([c for c in late if c.key.replay_fraction > 0]),
        lowest(cells),
    ]


def test_another_target_is_compared_with_all_and_what_is_missing_is_a_dash():
    study, table = table_of(asking("headline"))
    assert [row.cells[0] for row in table.rows] == 2 * ["flan", "finemath", "starcoder"]
    assert "compare signs and orders, not values" in table.words
    fine_tuning, mid_training = table.rows[:3], table.rows[3:]
    assert {row.cells[5] for row in fine_tuning} == {"–"}
    (ours,) = {row.cells[5] for row in mid_training}
    assert ours in {times(cell.multiplier) for cell in study.cells}
