"""Accuracy with its interval: tests by hand, coverage by simulation, tables on made-up runs."""

import itertools
import re

import numpy as np
import pytest
from fake_records import GSM8K, FakeStudy, fake_records
from scipy.stats import binomtest, t

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.study import replays
from replay_jax.analysis.study.task_scores import (
    accuracy_before,
    sign_flip_p,
    task_names,
    task_results,
    two_way_interval,
)
from replay_jax.report.tables.task_tables import task_tables

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)


@pytest.mark.parametrize(("won", "lost"), [(8, 2), (3, 3), (0, 5), (1, 0)])
def test_with_one_seed_it_is_mcnemars_exact_test(won, lost):
    differences = np.array([1] * won + [-1] * lost + [0] * 50)
    assert sign_flip_p(differences) == pytest.approx(binomtest(won, won + lost).pvalue)


def test_every_way_to_sign_the_differences_is_counted():
    differences = np.array([2, -1, 1, 3, 0, -2])
    sizes = np.abs(differences[differences != 0])
    sums = [abs(sizes @ signs) for signs in itertools.product((-1, 1), repeat=len(sizes))]
    expected = np.mean(np.array(sums) >= abs(differences.sum()))
    assert sign_flip_p(differences) == pytest.approx(expected)
    assert sign_flip_p(np.zeros(9, int)) == 1.0


def test_an_interval_by_hand():
    """Two rows, two columns, no interaction: variance of rows / 2 + variance of columns / 2."""
    found = two_way_interval(np.array([[0.0, 2.0], [1.0, 3.0]]), level=0.9)
    variance, degrees = 0.5 / 2 + 2.0 / 2, (1.25**2) / (0.25**2 + 1.0**2)
    half = t.ppf(0.95, degrees) * variance**0.5
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5 - half, 1.5 + half))


def test_one_row_counts_its_columns_and_equal_values_have_no_width():
    found = two_way_interval(np.array([[0.0, 1.0, 1.0, 0.0]]), level=0.9)
    assert found.low < 0.5 < found.high and found.value == 0.5
    same = two_way_interval(np.ones((3, 5)), level=0.9)
    assert (same.low, same.value, same.high) == (1.0, 1.0, 1.0)
    assert two_way_interval(np.ones((3, 1)), level=0.9).low is None


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_noise", [0.0, 0.03])
def test_intervals_cover_as_often_as_they_say(seeds, seed_noise):
    """Paired right and wrong answers with no true change; tools/calibrate_tasks.py does more."""
    random = np.random.default_rng([seeds, int(1000 * seed_noise)])
    hits = 0
    for _ in range(300):
        item = random.beta(2, 2, 200)
        right = [
            random.random((seeds, 200)) < item + random.normal(0, seed_noise, (seeds, 1))
            for _ in range(2)
        ]
        found = two_way_interval(right[0].astype(float) - right[1], level=0.9)
        hits += found.low <= 0 <= found.high
    assert 0.85 <= hits / 300 <= 0.98


# On records.


def scored(records, *, items=50, gain=6, before=True):
    """The records with a task: `gain` more items right for every run that replays."""
    for record in records:
        replayed = record["protocol"] != "uniform" and record["replay_fraction"]["requested"]
        right = 20 + record["seed"] + (gain if replayed else 0)
        correct = "1" * right + "0" * (items - right)
        curve = [{"step": 0, "accuracy": 0.3, "accuracy_by_length": 0.3, "choice_loss": 0.7}]
        end = {"accuracy": right / items, "accuracy_by_length": 0.5, "choice_loss": 0.6}
        record["tasks"] = {
            "quiz": {
                "digest": "d1", "items": items, **end,
                "correct": correct, "correct_by_length": correct,
                "curve": [*(curve if before else []), {"step": record["total_steps"], **end}],
            }
        }  # fmt: skip
    return records


def studied(**changes):
    fake = FakeStudy((GSM8K,), seeds=(0, 1, 2), allocations=(1.0,))
    records = scored(fake_records(fake), **changes)
    return analyse(records, CONFIG, resamples=200).targets[0], records


def test_changes_are_paired_with_the_baseline():
    study, records = studied()
    by_id = {record["id"]: record for record in records}
    cells = [cell for cell in study.cells if replays(cell) or cell.is_baseline]
    results = task_results(study, cells, by_id, "quiz")
    assert any(result.cell.is_baseline for result in results)
    for result in results:
        assert (result.items, result.seeds) == (50, 3)
        if result.cell.is_baseline:
            assert result.change is None and result.p_value is None
            assert result.accuracy.value == pytest.approx(21 / 50)
        else:
            assert result.accuracy.value == pytest.approx(27 / 50)
            assert result.change.value == pytest.approx(6 / 50)
            # Items 20 + s to 25 + s are won by seed s: 1, 2, 3, 3, 3, 3, 2, 1 over the items.
            won = np.array([1, 2, 3, 3, 3, 3, 2, 1])
            assert result.p_value == pytest.approx(sign_flip_p(won)) == pytest.approx(2 / 2**8)


def test_the_table_says_what_the_results_say():
    study, records = studied()
    (table,) = task_tables(study, records)
    assert table.title == "Task quiz: 50 items"
    assert table.rows[0].cells[:4] == ("before training", "", "", "30.0 %")
    widths = {len(row.cells) for row in table.rows}
    assert widths == {len(table.columns)}
    shown = [row.cells for row in table.rows[1:]]
    assert any(cells[4] == "baseline" and cells[5] == "–" for cells in shown)
    changed = [cells for cells in shown if cells[4] != "baseline"]
    assert changed and all(re.match(r"\+12\.0 \(", cells[4]) for cells in changed)
    assert all(cells[5] == "0.0078" and cells[7] == "3" for cells in changed)
    study, records = studied(before=False)
    assert accuracy_before(study, {r["id"]: r for r in records}, "quiz") is None


def test_runs_of_before_tasks_existed_have_none():
    fake = FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0,))
    records = fake_records(fake)
    assert task_names(records) == () == task_names(scored(fake_records(fake))[:1] + records)
    study = analyse(records, CONFIG, resamples=200).targets[0]
    assert task_tables(study, records) == ()


def test_a_name_that_stands_for_several_files_is_left_out():
    _, records = studied()
    assert task_names(records) == ("quiz",)
    records[-1]["tasks"]["quiz"]["digest"] = "another"
    assert task_names(records) == ()
