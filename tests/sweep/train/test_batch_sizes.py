"""Runs whose stages have batches of different sizes: shared, resumed at every step, and counted."""

import itertools
from unittest import mock

import in_process
import numpy as np
import pytest
from tiny_sweep import BATCH, RHO, SEQ_LEN, results_of

from replay_jax.config.experiment import resolve
from replay_jax.data.reading.pipeline import run_dataset
from replay_jax.errors import UserError
from replay_jax.sweep.plan.programs import programs_of
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.edge import edge_batches
from replay_jax.sweep.train.job import make_job, step_shape, update_shape
from replay_jax.training.gradient import DROPOUT_KEYS

SIZES = "schedule.batch_sizes"
# Of 96 sequences in 12 steps of 8, stage 2 has 32: in four steps, eight or two.
PLAIN, SMALL, LARGE = ({RHO: 0.5, **more} for more in ({}, {SIZES: [8, 4]}, {SIZES: [8, 16]}))
BOUNDARY = 8


@pytest.fixture(scope="module")
def together(study, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("together")
    outcome = study.train([SMALL, LARGE], workdir, here=True)
    assert (outcome.failures, outcome.results) == ((), 2)
    return workdir


def test_stage_1_is_shared_whatever_the_size_of_stage_2_is(study):
    plan = study.plan([PLAIN, SMALL, LARGE], None)
    assert [run.steps for run in plan.runs] == [12, 16, 10]
    assert plan.steps_planned == BOUNDARY + 4 + 8 + 2
    plain, small, large = (run.chain for run in plan.runs)
    for other in (small[:11], large):
        same = (plain[: len(other)] == other).all(axis=1)
        assert same[: BOUNDARY + 1].all() and not same[BOUNDARY + 1 :].any()
    assert len({run.tokens for run in plan.runs}) == 1
    assert len({run.flops for run in plan.runs}) == 1
    # Alone too an edge ends where the size changes, and at neither end of the run.
    steps = [(e.start.step, e.stop.step) for e in study.plan([SMALL], None).edges]
    assert steps == [(0, BOUNDARY), (BOUNDARY, 16)]
    costs = study.plan([SMALL], None).to_json()["totals"]
    assert costs["flops_planned"] == pytest.approx(costs["flops"])


def test_one_size_throughout_is_as_if_there_were_none(study):
    (plain,) = study.plan([PLAIN], None).runs
    (same,) = study.plan([{**PLAIN, SIZES: [BATCH, BATCH]}], None).runs
    assert same.id == plain.id and np.array_equal(same.chain, plain.chain)
    assert same.schedule == plain.schedule
    assert len({run.id for run in study.plan([PLAIN, SMALL, LARGE], None).runs}) == 3


def test_programs_and_batches_are_of_the_size_of_the_stage(study):
    (run,) = study.plan([LARGE], None).runs
    found = [(p.shape.batch_size, p.shape.accumulation) for p in programs_of([run.config])]
    assert found == [(8, 1), (16, 2)]  # no more rows at a time than before
    batches = run_dataset(
        stores=study.stores, views=run.views, schedule=run.schedule, document_mask=False,
        loss_weight_by_source={},
    )  # fmt: skip
    assert [len(batches[step]["row"]) for step in range(len(batches))] == [8] * 8 + [16] * 2
    (plain,) = study.plan([PLAIN], None).runs
    usual = run_dataset(
        stores=study.stores, views=plain.views, schedule=plain.schedule, document_mask=False,
        loss_weight_by_source={},
    )  # fmt: skip
    rows = [np.concatenate([b[n]["inputs"] for n in range(len(b))]) for b in (batches, usual)]
    np.testing.assert_array_equal(*rows)


def test_alone_and_resumed_before_every_step_it_is_the_same_to_the_bit(study, together, tmp_path):
    known, whole = results_of(together), in_process.work

    def one_step(*what, **said):
        asked = itertools.count()
        return whole(*what, **{**said, "should_stop": lambda: next(asked) > 0})

    def in_pieces(*what, **said):
        while not (ended := one_step(*what, **said)).finished:
            pieces.append(ended.step)
        return ended

    pieces = []
    with mock.patch.object(in_process, "work", in_pieces):
        study.train([SMALL], tmp_path, here=True)
    (alone,) = results_of(tmp_path).values()
    assert alone == known[alone["name"]]
    assert pieces == [n for n in range(1, 16) if n != BOUNDARY]


def test_what_was_consumed_is_what_was_planned(study, together):
    assert verify(together) == ([], 2)
    for record in results_of(together).values():
        first, second = record["ledger"]["stages"]
        assert "batch_size" not in first
        assert second["batch_size"] == record["overrides"][SIZES][1]
        assert (first["sequences"], second["sequences"]) == (64, 32)
        assert [entry["sequences"] for entry in second["entries"]] == [16, 16]
        tokens = sum(entry["tokens"] for entry in record["ledger"]["totals"])
        assert tokens == 96 * SEQ_LEN


def jobs_of(study, item, workdir):
    plan, store = study.plan([item], None), WorkStore(workdir)
    given = {"store": store, "stores": study.stores, "accept_environment": False}
    return [make_job(plan, task, **given) for task in plan.tasks]


def test_a_sequence_drops_the_same_whatever_the_size_of_its_batch(study, tmp_path):
    keys = [
        np.concatenate([b[DROPOUT_KEYS] for job in jobs for b in edge_batches(job)])
        for jobs in (
            jobs_of(study, {**item, "training.dropout": 0.1}, tmp_path) for item in (PLAIN, SMALL)
        )
    ]
    np.testing.assert_array_equal(*keys)
    assert len({tuple(key) for key in keys[0].tolist()}) == 96


def test_jobs_of_two_sizes_are_of_two_shapes(study, tmp_path):
    """So that lanes, which are of one shape at a time, never hold both."""
    jobs = jobs_of(study, LARGE, tmp_path)
    shapes = [update_shape(job) for job in jobs]
    assert [(shape.batch_size, shape.accumulation) for shape in shapes] == [(8, 1), (16, 2)]
    assert step_shape(jobs[0]) == step_shape(jobs[1]) == shapes[0]  # what measures


def test_a_size_that_no_mesh_divides_is_said_before_anything_is_trained(study, tmp_path):
    with pytest.raises(UserError, match=r"nearest schedule\.batch_sizes that does is 2"):
        study.train([{RHO: 0.5, SIZES: [8, 1]}], tmp_path, here=2, mesh__fsdp=2)
    with pytest.raises(UserError, match="must have one for each of the 2 stages"):
        study.plan([{RHO: 0.5, SIZES: [8, 4, 2]}], None)
    plain = study.config.to_dict()
    plain["schedule"]["batch_sizes"] = [8, "4"]
    with pytest.raises(UserError, match="batch_sizes"):
        resolve(plain)
