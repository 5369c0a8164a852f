"""Runs that a budget left out of the comparison: what they answer, on the quickstart's records."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.training import training
from replay_jax.analysis.runs.records import load_records
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.groups import Setting
from replay_jax.analysis.study.tried import learning_rate_of
from replay_jax.library import gathering
from replay_jax.library.gathering import gathered

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def studies():
    """The budgeted quickstart as its report has it, and with the runs compared alone."""
    budget = json.loads((EXPERIMENTS / "quickstart_budget" / "budget.json").read_text())
    runs = {r["id"]: r for r in load_records(EXPERIMENTS / "quickstart" / "results.jsonl")}
    compared = [("place", runs[id]) for id in budget["compared"]]
    with pytest.MonkeyPatch.context() as patch:
        few = functools.partial(analyse_anyway, resamples=300)
        patch.setattr(gathering, "analyse_anyway", few)
        found = gathered(compared, [runs[id] for id in budget["left_out"]])
        alone = gathered(compared)
    assert [r["id"] for r in found.records] == budget["compared"]
    assert [r["id"] for r in found.tried] == budget["left_out"]
    return found.study, alone.study


def test_numbers_are_of_the_runs_compared_alone(studies):
    study, alone = (study.target() for study in studies)
    fields = ("target_loss", "gain", "multiplier", "generic_cost", "best_share")
    for one, other in zip(study.cells, alone.cells, strict=True):
        assert one.key == other.key and one.settings[0].run_ids == other.settings[0].run_ids
        assert [getattr(one, f) for f in fields] == [getattr(other, f) for f in fields]


def test_epochs_were_tuned_by_runs_that_are_left_out(studies):
    study, alone = (study.target() for study in studies)
    assert "schedule.target_epochs was not tuned: every group" in " ".join(alone.notes)
    assert not any("not tuned" in note for note in study.notes)
    words = "schedule.target_epochs was tuned by runs that are not compared in 7 of 7 groups"
    assert any(note.startswith(words) for note in study.notes)
    for cell in study.cells:
        tried = {s.target_epochs for s in cell.ever}
        ends = {min(tried), max(tried)} if len(tried) > 1 else set()
        assert bool(cell.at_edge) == (cell.chosen.target_epochs in ends)


def test_a_replay_fraction_that_was_dropped_was_tried(studies):
    """At 2,048 tokens .875 was, and came within .003 nat; at 4,096 nothing above .75 was."""
    (small, large), (alone, _) = (recommend_every_group(study, "c_headers") for study in studies)
    cautions = {c.kind: c.words for c in small.cautions}
    assert "largest" not in cautions and "untuned" not in cautions
    assert (
        "ρ = 0.875" in cautions["dropped"]
        and "+0.003 nat against the same setting of " in (cautions["dropped"])
    )
    assert small.replay_fraction.note == "no replay fraction above 0.75 was compared"
    assert {c.kind for c in alone.cautions} >= {"largest", "untuned"}
    assert "largest" in {c.kind for c in large.cautions}
    # Between .75 and .875, no longer beyond: -ln(1 - rho) half-way.
    finer = [o.runs[0]["schedule.replay_fraction"] for o in small.next_runs
             if o.narrows == "replay_fraction"]  # fmt: skip
    assert finer[0] == pytest.approx(1 - (0.25 * 0.125) ** 0.5, abs=5e-4)


def test_dropped_schedules_are_named_with_their_distance_on_the_same_seed(studies):
    study = studies[0].target()
    dropped = {(d.key.target_tokens, d.key.replay_fraction): d for d in study.dropped}
    assert set(dropped) == {(2048, 0.5), (2048, 0.875), (4096, 0.5)}
    (setting,) = dropped[2048, 0.875].settings
    best = next(
        s
        for cell in study.cells
        if (cell.key.target_tokens, cell.key.replay_fraction) == (2048, 0.75)
        for s in cell.ever
        if s.tuned == setting.tuned
    )
    seed = study.seeds.index(1)
    gap = setting.target_by_seed[seed] - best.target_by_seed[seed]
    (note,) = (note for note in study.notes if note.startswith("tried and not compared: "))
    assert f"ρ = 0.875, α = 1, 2,048 target tokens (dropped after 1 run, {gap:+.3f} nat" in note


def test_a_run_as_long_counts_where_it_was_only_tried(studies):
    """The other side was given as much training, whether or not that run is compared."""
    cell = next(cell for cell in studies[0].target().cells if cell.tried)
    chosen = replace(cell.chosen, steps=100.0, flops=None)
    short = replace(cell, settings=(chosen,), best=0, tried=())
    long = replace(short, settings=(replace(chosen, steps=200.0),))
    assert training(long, short).longer
    assert not training(long, replace(short, tried=long.settings)).longer


def test_the_learning_rate_is_read_where_a_sweep_s_own_stands_by_its_name():
    """Reports name the schedules that a sweep varies; the configuration has them whole."""
    rate = {"peak": 0.003, "shape": "cosine"}
    record = {
        "overrides": {"schedule.learning_rate": "cosine 0.003"},
        "config": {"schedule": {"learning_rate": rate}},
    }
    nothing = np.zeros(0)
    assert learning_rate_of(Setting((), 1.0, nothing, nothing, (record,))) == rate
    foreign = {"overrides": {}, "config": {}}
    assert learning_rate_of(Setting((), 1.0, nothing, nothing, (foreign,))) == {}
