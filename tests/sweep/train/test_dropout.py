"""Runs with dropout: what they share, and that neither sharing nor resuming changes a bit."""

import dataclasses
import shutil

import pytest
from tiny_sweep import RHO, results_of

from replay_jax.sweep.plan.found import Found
from replay_jax.sweep.plan.plan import plan_sweep
from replay_jax.sweep.plan.work import Done
from replay_jax.sweep.results.verify import verify

RATE = "training.dropout"
SWEEP = [{RHO: 0.5, RATE: 0.2}, {RHO: 0.0, RATE: 0.2}]


@pytest.fixture(scope="module")
def together(study, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("together")
    outcome = study.train(SWEEP, workdir, here=True, execution__keep_states=True)
    assert (outcome.failures, outcome.results) == ((), 2)
    return workdir


def test_rate_and_seed_are_part_of_what_every_step_sees(study):
    runs = study.plan([{"seed": s, RATE: r} for s in (0, 1) for r in (0.0, 0.1, 0.2)], None).runs
    for step in (1, 12):
        assert len({run.node(step).digest for run in runs}) == len(runs)
    assert len({run.id for run in runs}) == len(runs)
    # Off, it is as if there were none.
    assert runs[0].id == study.plan([{"seed": 0}], None).runs[0].id
    plan = study.plan(SWEEP, None)
    assert plan.steps_planned < plan.steps_naive


def test_from_a_model_the_seed_counts_where_it_drops(study):
    config = study.plan([{}], None).runs[0].config

    def planned(seed, rate):
        training = dataclasses.replace(config.training, dropout=rate)
        away = dataclasses.replace(
            config, seed=seed, training=training, initial_weights="org/model"
        )
        (run,) = plan_sweep([(away, {})], found=Found(study.stores), done=Done()).runs
        return run.id, run.node(12).digest, run.node(0).digest

    assert planned(1, 0.0) == planned(2, 0.0)
    one, other = planned(1, 0.2), planned(2, 0.2)
    assert one[0] != other[0] and one[1] != other[1]
    assert one[2] == other[2]  # they begin alike


def test_alone_or_gone_on_with_it_is_the_same_to_the_bit(study, together, tmp_path):
    known = results_of(together)
    item = SWEEP[1]
    study.train([item], tmp_path / "alone", here=True)
    (alone,) = results_of(tmp_path / "alone").values()
    assert alone == known[alone["name"]]
    # From the state at which the two part, saved on the way.
    copy = shutil.copytree(together, tmp_path / "copy")
    (run,) = study.plan([item], copy).runs
    for gone in ("results", "evaluations", f"states/{run.node(run.steps).digest}"):
        shutil.rmtree(copy / gone)
    plan = study.plan([item], copy, execution__keep_states=True)
    assert 0 < plan.steps_remaining < run.steps
    study.train([item], copy, here=True, execution__keep_states=True)
    (again,) = results_of(copy).values()
    assert again["losses"] == alone["losses"] and again["ledger"] == alone["ledger"]
    assert verify(copy) == ([], 1)


def test_dropping_changes_training(together, finished_sweep):
    records = results_of(finished_sweep).values()
    (plain,) = (r for r in records if r["overrides"] == {RHO: 0.5})
    dropped = next(r for r in results_of(together).values() if r["overrides"][RHO] == 0.5)
    assert plain["losses"]["target"] != dropped["losses"]["target"]
    assert plain["ledger"] == dropped["ledger"]
