"""The paper's own values beside those of a study: of its target, or of all where it has another."""

import json
import re
from dataclasses import replace

import pytest
from fake_records import BATCH_SIZE, GSM8K, SEQ_LEN, FakeStudy, fake_records
from fake_report import CONFIG
from places import ROOT

from replay_jax.analysis.runs.records import PUBLISHED, AnalysisConfig, load_records
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.study import replays
from replay_jax.analysis.study.task_scores import task_results
from replay_jax.report.elements.words import between, times
from replay_jax.report.published.figure import BEYOND, OURS, published_figures
from replay_jax.report.published.figure import PUBLISHED as PUBLISHED_ONE
from replay_jax.report.published.table import published_table
from replay_jax.report.published.values import best_cells, choices, published

RECORDS = fake_records(FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0, 0.5), epochs=(16.0,)))
TRAINING = {"batch_size": BATCH_SIZE, "seq_len": SEQ_LEN}


@pytest.fixture(scope="module")
def study():
    """Analysed once: what is published is no part of an analysis."""
    return analyse_anyway(RECORDS, CONFIG, resamples=200)


def asking(published, target="gsm8k"):
    """The records of a study that asks what the paper asks."""
    settings = {"analysis": {"published": published}, "training": TRAINING}
    return [
        record | {"config": record["config"] | settings, "target": target} for record in RECORDS
    ]


def called(study, target):
    """The study as if its target had that name."""
    return replace(study, targets=(replace(study.targets[0], target=target),))


def table_of(study, published, target="gsm8k"):
    return published_table(called(study, target).targets[0], asking(published, target))


def figures_of(study, published, target="gsm8k"):
    return published_figures(called(study, target), asking(published, target))


def drawn(figures):
    """Rows of the only figure by what they are of and whether they are published."""
    (figure,) = figures
    rows = [row for rows in figure.spec["datasets"].values() for row in rows if "series" in row]
    return {(row["label"], row["series"] == PUBLISHED_ONE): row for row in rows}


def test_every_part_that_may_be_named_has_values():
    assert tuple(published()) == PUBLISHED[1:]


def test_a_study_that_names_nothing_has_no_table(study):
    assert published_table(study.targets[0], RECORDS) is None
    assert table_of(study, "") is None and figures_of(study, "") == ()


def test_values_stand_beside_the_best_of_their_kind(study):
    table = table_of(study, "mid_training", "flan")
    assert [(row.cells[0], row.cells[3]) for row in table.rows] == [
        ("flan", "3.444"), ("flan", "3.358"), ("flan", "3.295"),
    ]  # fmt: skip
    assert "no uncertainty published" in table.words and "other text" not in table.words
    cells = two_stage(study)
    late = [c for c in cells if c.key.allocation == 1]

    def lowest(chosen):
        return between(min(chosen, key=lambda c: c.target_loss.value).target_loss, ".3f")

    assert [row.cells[5] for row in table.rows] == [
        lowest([c for c in late if c.key.replay_fraction == 0]),
        lowest([c for c in late if c.key.replay_fraction > 0]),
        lowest(cells),
    ]


def two_stage(study):
    """The cells with two stages of the smallest budget."""
    cells = [c for c in study.targets[0].cells if c.key.protocol == "two_stage"]
    budget = min(c.key.target_tokens for c in cells if c.key.replay_fraction > 0)
    return [c for c in cells if c.key.target_tokens == budget]


def test_another_target_is_compared_with_all_and_what_is_missing_is_a_dash(study):
    table = table_of(study, "headline")
    assert [row.cells[0] for row in table.rows] == 2 * ["flan", "finemath", "starcoder"]
    assert "compare signs and orders, not values" in table.words
    fine_tuning, mid_training = table.rows[:3], table.rows[3:]
    assert {row.cells[5] for row in fine_tuning} == {"–"}
    (ours,) = {row.cells[5] for row in mid_training}
    assert ours in {times(cell.multiplier) for cell in study.targets[0].cells}


def test_all_layers_of_worths_share_one_scale_without_a_zero(study):
    """Browsers warn where a log scale is asked to hold zero, or a layer has one of its own."""
    (figure,) = figures_of(study, "headline")
    scales = [layer["encoding"]["x"]["scale"] for layer in figure.spec["layer"]]
    assert len(scales) == 3 and all(scale == scales[0] for scale in scales)
    assert scales[0]["type"] == "log" and "zero" not in scales[0]


@pytest.mark.parametrize("name", PUBLISHED[1:])
def test_every_published_value_has_a_line_beside_any_study(study, name):
    table = table_of(study, name)
    assert len(table.rows) == len(published()[name])
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    comparable = {"headline", "mid_training", "reference_law"}
    assert len(figures_of(study, name)) == (name in comparable)


def test_published_marks_have_no_bars_and_ours_have(study):
    rows = drawn(figures_of(study, "headline", "flan"))
    theirs, own = rows["flan, mid-training", True], rows["flan, mid-training", False]
    assert (theirs["value"], theirs["low"], theirs["high"]) == (2.06, None, None)
    late = [c for c in two_stage(study) if c.key.allocation == 1 and c.key.replay_fraction > 0]
    best = min(late, key=lambda cell: cell.chosen.target_loss).multiplier
    assert (own["value"], own["low"], own["high"]) == (best.value, best.low, best.high)
    assert own["series"] == (BEYOND if best.extrapolated else OURS)
    assert ("flan, fine-tuning", False) not in rows  # none of ours


def test_losses_are_drawn_as_what_they_gain(study):
    rows = drawn(figures_of(study, "mid_training", "flan"))
    assert rows["flan, mid-training, best replay", True]["value"] == pytest.approx(0.08634)
    assert rows["flan, mid-training, best schedule", True]["value"] == pytest.approx(0.14922)
    law = drawn(figures_of(study, "reference_law"))
    assert law["finemath, 16 batches instead of 1", True]["value"] == pytest.approx(0.63054)
    loss = {
        c.key.target_tokens: c.chosen.target_loss
        for c in study.targets[0].cells
        if c.key.protocol == "uniform"
    }
    own = law["gsm8k, 8 batches instead of 1", False]
    assert own["value"] == pytest.approx(loss[4096] - loss[32768])
    assert own["low"] < own["value"] < own["high"]
    assert ("gsm8k, 16 batches instead of 1", False) not in law  # was not run


def test_what_was_chosen_stands_beside_the_best_of_ours_without_replay(study):
    assert choices(asking("repetitions")) == {"schedule.target_epochs": 32.0}
    cells = study.targets[0].cells
    loss = min(c.chosen.target_loss for c in cells if not replays(c))
    (row,) = table_of(study, "repetitions").rows
    assert row.cells[3] == "32" and row.cells[5] == f"16 (loss {loss:.3f})"


def test_accuracies_stand_beside_those_of_the_same_replay_fraction_and_budget():
    """On records of the 8B case in small: continual training, two tasks, four budgets."""
    records = load_records(ROOT / "experiments/basque_small/results.jsonl")
    asking = {"analysis": {"published": "basque_8b"}}
    records = [record | {"config": record["config"] | asking} for record in records]
    analysis = AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), 0.9)
    found = analyse_anyway(records, analysis, resamples=20)
    (study,) = found.targets
    by_id = {record["id"]: record for record in records}
    replayed = {c.key.target_tokens for c in study.cells if c.key.replay_fraction > 0}
    results = {
        (c.key.target_tokens == max(replayed), c.key.replay_fraction): r
        for c in study.cells
        if c.key.target_tokens in (min(replayed), max(replayed))
        for r in task_results(study, [c], by_id, "basque")
    }
    rows = {tuple(row.cells[2].split(", ")): row.cells[5] for row in
            published_table(study, records).rows}  # fmt: skip
    gains = drawn(published_figures(found, records))
    for words, large in (("200M tokens", True), ("40M tokens", False)):
        for rho in (0.0, 0.5, 0.75):
            result = results[large, rho]
            assert rows["accuracy", words, f"ρ {rho:g}"] == between(result.accuracy, ".3f")
            if rho:
                own = f"basque, {'largest' if large else 'smallest'} budget, ρ {rho:g}"
                assert gains[own, False]["value"] == result.change.value
                assert gains[f"latxa, {words}, ρ {rho:g}", True]["low"] is None
        assert rows["accuracy", words, "ρ 0.9"] == "–"
    assert gains["latxa, 200M tokens, ρ 0.75", True]["value"] == pytest.approx(0.02)


def test_several_studies_in_one_directory_show_the_values_of_all(study):
    both = [*asking("weight_decay")[:2], *asking("mid_training")[2:]]
    shown = len(published()["weight_decay"]) + len(published()["mid_training"])
    assert len(published_table(study.targets[0], both).rows) == shown
    own = [record | {"target": "flan"} for record in both]
    flan = [row for row in published()["mid_training"] if row.target == "flan"]
    rows = published_table(called(study, "flan").targets[0], own).rows
    assert len(rows) == len(published()["weight_decay"]) + len(flan)


def test_the_cells_of_the_paper_are_named_in_a_grid():
    assert best_cells(asking("mid_training", "flan"), "flan") == {(0.5, 0.25): ("flan",)}
    every = best_cells(asking("mid_training"), "gsm8k")
    assert every[0.5, 0.25] == ("flan", "finemath") and every[0.5, 1.0] == ("starcoder",)
    assert best_cells(asking("headline"), "gsm8k") == {}


def test_the_points_of_the_law_are_those_that_are_fitted():
    """And the losses of mid-training and fine-tuning those whose ratios are recomputed."""
    for target in ("flan", "finemath", "starcoder"):
        path = ROOT / "experiments/published_points" / f"{target}.json"
        points = json.loads(path.read_text())
        law = [row for row in published()["reference_law"] if row.target == target]
        at = [1024 * x for x in points["reference"]["x"]]
        assert [(row.at, row.value) for row in law] == list(
            zip(at, points["reference"]["loss"], strict=True)
        )
        losses = {
            (row.protocol, row.what): row.value
            for name in ("mid_training", "fine_tuning")
            for row in published()[name]
            if row.target == target
        }
        candidates = points["candidates"]
        assert candidates["mid-training"] == losses["two_stage", "no replay"]
        assert candidates["mid-training with replay"] == losses["two_stage", "best replay"]
        assert candidates["full schedule"] == losses["two_stage", "best schedule"]
        assert candidates["fine-tuning"] == losses["fine_tuning", "no replay"]
        assert candidates["fine-tuning with replay"] == losses["fine_tuning", "best replay"]


def test_the_page_about_the_paper_has_the_same_values():
    """Of every kind that stands there as numbers: worth, losses, the law, accuracies, scores."""
    text = (ROOT / "docs/paper.md").read_text()
    said = {float(number) for number in re.findall(r"(?<![\w.])\d*\.\d+", text)}
    digits = {"worth": 2, "score": 2, "best schedule": 2}
    for rows in published().values():
        for row in rows:
            if row.value is not None and row.what != "chosen":
                half = 0.5 * 10.0 ** -digits.get(row.what, 3) + 1e-9
                assert any(abs(number - row.value) <= half for number in said), row


def test_what_two_studies_ask_alike_is_said_once(study):
    both = asking("constant_mixture") + asking("mid_training")
    table = published_table(study.targets[0], both)
    assert len(table.rows) == len(set(table.rows)) == len(published()["mid_training"])
    tops = best_cells(both, "gsm8k").values()
    assert tops and all(len(names) == len(set(names)) for names in tops)
