"""Shared prefixes change nothing but the time: bit for bit, also when a sweep grows later."""

import shutil

import jax
import numpy as np
import pytest
from tiny_sweep import RHO, SWEEP, results_of

from replay_jax.config.grid import chain
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.saving.checkpoint import restore_state
from replay_jax.training.step import abstract_state


def test_the_shared_sweep_shares(study):
    plan = study.plan(SWEEP, None)
    assert plan.steps_planned < plan.steps_naive
    assert max(len(edge.runs) for edge in plan.edges) == 4


def state_bits(workdir, run) -> list[bytes]:
    """Every array of a run's final state, parameters and moments."""
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    path = WorkStore(workdir).state_path(run.chain[-1].tobytes().hex())
    state, _ = restore_state(path, abstract_state(run.config.model, mesh))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


def test_solo_runs_are_bit_identical_to_shared_ones(study, finished_sweep, tmp_path):
    """One that parts late, and one that resets its optimizer: each goes on from shared states."""
    together = results_of(finished_sweep)
    for item in SWEEP[2:4]:
        workdir = tmp_path / str(len(item))
        plan = study.plan([item], workdir)
        assert len(plan.edges) == 1
        study.train([item], workdir, here=True, execution__keep_states=True)
        (alone,) = results_of(workdir).values()
        assert alone == together[alone["name"]]
        assert state_bits(workdir, plan.runs[0]) == state_bits(finished_sweep, plan.runs[0])


def test_different_runs_differ(finished_sweep):
    losses = [record["losses"]["target"] for record in results_of(finished_sweep).values()]
    assert len(set(losses)) == len(SWEEP)


def test_what_was_consumed_is_what_was_planned(finished_sweep):
    assert verify(finished_sweep) == ([], len(SWEEP))


def test_curves_and_boundaries_are_complete(finished_sweep):
    for record in results_of(finished_sweep).values():
        steps = [point["step"] for point in record["curve"]]
        assert {5, 10, 12, record["boundary"]["step"]} <= set(steps)
        assert record["curve"][-1]["target"] == record["losses"]["target"]
        assert all(point["train_generic"] is not None for point in record["curve"][:1])
        assert -1 <= record["boundary"]["gradient_cosine"] <= 1


def test_a_grown_sweep_trains_only_what_is_new(study, finished_sweep, tmp_path):
    shared = tmp_path / "shared"
    shutil.copytree(finished_sweep, shared)
    before = {path: path.read_bytes() for path in (shared / "results").iterdir()}
    segments = {path: path.stat().st_mtime_ns for path in (shared / "segments").iterdir()}
    grown = chain(SWEEP, [{RHO: 0.25}, {RHO: 0.5, "schedule.target_sequences": 4}])
    plan = study.plan(grown, shared, execution__keep_states=True)
    # Each new run goes on from the last state that was kept before it parts from the old ones.
    assert 0 < plan.steps_remaining < plan.steps_planned / 2
    assert {run for task in plan.tasks for run in task.runs} == {len(SWEEP), len(SWEEP) + 1}
    study.train(grown, shared, here=True, execution__keep_states=True)
    assert {path: path.read_bytes() for path in before} == before
    trained = [
        WorkStore(shared).segment(path.stem)
        for path in (shared / "segments").iterdir()
        if path not in segments or path.stat().st_mtime_ns != segments[path]
    ]
    assert sum(s.stop.step - s.start.step for s in trained) == plan.steps_remaining
    study.train([grown[-1]], tmp_path / "alone", here=True)
    (alone,) = results_of(tmp_path / "alone").values()
    assert alone == results_of(shared)[alone["name"]]


def test_records_say_which_documents_losses_are_of(finished_sweep):
    records = results_of(finished_sweep).values()
    assert {tuple(r["loss_documents"]["target"]["document"]) for r in records} != {()}
    for record in records:
        for role in ("target", "generic"):
            found = record["loss_documents"][role]
            assert sum(found["tokens"]) == record["loss_tokens"][role]
            loss = sum(found["nats"]) / sum(found["tokens"])
            assert loss == pytest.approx(record["losses"][role], abs=1e-4)
