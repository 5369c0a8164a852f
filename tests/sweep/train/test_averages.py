"""Runs that are judged by the average of their parameters: shared, resumed, kept and exported."""

import jax
import numpy as np
import pytest
from tiny_sweep import RHO, STEPS, results_of
from tiny_training import digest

from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.averaging import abstract_averaged
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.saving.checkpoint import restore_params, restore_state
from replay_jax.training.step import abstract_state

LAST = "training.average_last"
START = 3
# Two replay fractions that part while they are averaged, and one that is not averaged.
SWEEP = [{RHO: 0.5, LAST: 0.75}, {RHO: 0.0, LAST: 0.75}, {RHO: 0.5}]


@pytest.fixture(scope="module")
def together(study, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("together")
    outcome = study.train(SWEEP[:2], workdir, here=True, execution__keep_states=True)
    assert (outcome.failures, outcome.results) == ((), 2)
    return workdir


def test_all_is_shared_up_to_the_first_average_and_averages_among_themselves(study):
    plan = study.plan(SWEEP, None)
    first, second, plain = (run.chain for run in plan.runs)
    same = (first == plain).all(axis=1)
    assert same[: START + 1].all() and not same[START + 1 :].any()
    parted = int((first == second).all(axis=1).sum()) - 1
    assert START < parted < STEPS
    assert plan.steps_planned == STEPS + (STEPS - START) + (STEPS - parted)
    # Parameters, two moments, and the average.
    alone = study.plan(SWEEP[2:], None)
    assert plan.state_bytes * 3 == alone.state_bytes * 4
    assert plan.training_bytes * 4 == alone.training_bytes * 5


def state_of(workdir, run):
    model = run.config.model
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    like = abstract_state(model, mesh)
    if run.config.training.average_last:
        like = abstract_averaged(like, model)
    path = WorkStore(workdir).state_path(run.chain[-1].tobytes().hex())
    return restore_state(path, like)[0], restore_params(path, like.params)


def test_the_average_is_what_is_judged_and_training_is_what_it_was(study, together, finished_sweep):
    averaged, _, plain = study.plan(SWEEP, None).runs
    state, judged = state_of(together, averaged)
    last, _ = state_of(finished_sweep, plain)
    assert digest(state.params) == digest(last.params)
    assert digest(judged) == digest(state.average) != digest(last.params)
    ours = results_of(together)[averaged.name]
    theirs = results_of(finished_sweep)[plain.name]
    assert ours["losses"]["target"] != theirs["losses"]["target"]
    assert ours["ledger"] == theirs["ledger"]
    assert np.isclose(ours["losses"]["target"], theirs["losses"]["target"], rtol=0.5)
    assert verify(together) == ([], 2)


def test_alone_it_is_the_same_to_the_bit_and_its_end_is_the_average(study, together, tmp_path):
    """The second one goes on from a state that was saved within the average."""
    item = SWEEP[1]
    study.train([item], tmp_path, here=True)
    (alone,) = results_of(tmp_path).values()
    assert alone == results_of(together)[alone["name"]]
    run = study.plan([item], None).runs[0]
    (end,) = (tmp_path / "ends").iterdir()
    state, judged = state_of(together, run)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), judged
    )
    assert digest(restore_params(end, like)) == digest(judged) == digest(state.average)
