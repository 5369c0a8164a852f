"""What replay is worth by task scores: the truth recovered, and what gives no number."""

import math

import numpy as np
import pytest

from replay_jax.analysis.advice import task_worth
from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.advice.task_worth import score_curve
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import record
from replay_jax.analysis.study.analyse import analyse
from replay_jax.report.advice import advise, beside_loss, by_target
from replay_jax.report.tables.task_tables import task_tables

CONFIG = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), 0.9)
ITEMS = 200
# Replay is worth less by its loss than by what the task says.
BY_LOSS, BY_TASK = 1.3, 1.8


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Enough for bounds of a 90 % interval."""
    monkeypatch.setattr(task_worth, "RESAMPLES", 400)


def scored(draw, *, worth=BY_TASK, seeds=3, **how):
    """One run of a sweep with a task, for every seed."""
    rng = np.random.default_rng(draw)
    hardness = (np.arange(ITEMS) + rng.random(ITEMS)) / ITEMS
    runs = []
    places = [("uniform", 0.0, tokens) for tokens in (1024, 2048, 4096, 8192, 16384)]
    for protocol, rho, tokens in (*places, ("two_stage", 0.0, 4096), ("two_stage", 0.5, 4096)):
        amount, known = (tokens * (each if rho else 1.0) for each in (BY_LOSS, worth))
        right = 0.15 + 0.15 * math.log(known / 512)
        for seed in range(seeds):
            luck = np.random.default_rng([draw, seed]).normal(0, 0.01, 2) + rng.normal(0, 0.005, 2)
            correct = hardness < right + luck[1] + rng.normal(0, 0.02, ITEMS)
            run = record(protocol=protocol, replay_fraction=rho, target_tokens=tokens, seed=seed,
                         target_loss=3 + 40 / math.sqrt(amount) + luck[0])  # fmt: skip
            run["tasks"] = {"quiz": {
                "digest": "d", "items": ITEMS, "accuracy": float(correct.mean()),
                "correct": "".join("01"[int(c)] for c in correct),
                "choice_loss": 0.5 + 20 / math.sqrt(known) + luck[1], "curve": [], **how,
            }}  # fmt: skip
            runs.append(run)
    return runs


def place_of(study, rho):
    return next(i for i, c in enumerate(study.cells)
                if c.key.protocol == "two_stage" and c.key.replay_fraction == rho)  # fmt: skip


def test_the_worth_by_a_task_is_recovered():
    held = {"choice loss": 0, "accuracy": 0}
    for draw in range(4):
        records = scored(draw)
        study = analyse(records, CONFIG, resamples=100).targets[0]
        for measure in held:
            curve = score_curve(study, {r["id"]: r for r in records}, "quiz", measure)
            found = curve.multiplier(place_of(study, 0.5), place_of(study, 0.0))
            held[measure] += found.low <= BY_TASK <= found.high
            assert BY_LOSS < found.value
    assert min(held.values()) >= 3


def test_items_widen_the_interval_by_accuracy_and_groups_more():
    def width(records):
        study = analyse(records, CONFIG, resamples=100).targets[0]
        by_id = {r["id"]: r for r in records}
        found = score_curve(study, by_id, "quiz", "accuracy")
        found = found.multiplier(place_of(study, 0.5), place_of(study, 0.0))
        return math.log(found.high / found.low)

    # Items of a group are alike in hardness, so eight of them are less than two hundred.
    one, grouped = width(scored(3)), width(scored(3, group=[i // 25 for i in range(ITEMS)]))
    assert grouped > 1.2 * one


def test_the_table_and_the_json_say_it_beside_the_loss():
    records = scored(1)
    study = analyse(records, CONFIG, resamples=100)
    *_, table = task_tables(study.targets[0], records)
    assert table.title == "What replay is worth by task scores"
    titles = [column.title for column in table.columns]
    assert titles[3:] == ["by target loss", "by loss among choices", "by accuracy"]
    (row,) = table.rows
    by_loss, by_choice = (float(cell.partition("×")[0]) for cell in row.cells[3:5])
    assert by_loss == pytest.approx(BY_LOSS, abs=0.15)
    assert by_choice == pytest.approx(BY_TASK, abs=0.2)
    said = by_target(advise(study), beside=beside_loss(study, records))
    assert [(each["task"], each["by"]) for each in said["tasks"]] == [
        ("quiz", "choice loss"), ("quiz", "accuracy"),
    ]  # fmt: skip
    assert all(each["multiplier"]["low"] < each["multiplier"]["high"] for each in said["tasks"])
    assert said["gain_bits_per_byte"] is None
    for run in records:
        run["bits_per_byte"] = {"target": run["losses"]["target"] / 2.5, "generic": None}
    study = analyse(records, CONFIG, resamples=100)
    said = by_target(advise(study), beside=beside_loss(study, records))
    assert said["gain_bits_per_byte"]["low"] == pytest.approx(said["gain_nats"]["low"] / 2.5)
    assert recommend(study).multiplier.value == pytest.approx(said["multiplier"]["value"])


def test_scores_that_do_not_grow_give_no_worth():
    records = scored(2)
    for run in records:
        run["tasks"]["quiz"]["choice_loss"] = 0.7
    study = analyse(records, CONFIG, resamples=100).targets[0]
    curve = score_curve(study, {r["id"]: r for r in records}, "quiz", "choice loss")
    assert curve.multiplier(0, 1) is None and "does not fall" in curve.problem
    *_, table = task_tables(study, records)
    assert [c.title for c in table.columns][3:] == ["by target loss", "by accuracy"]
    assert "quiz: the reference recipe's choice loss gives no curve" in table.words
