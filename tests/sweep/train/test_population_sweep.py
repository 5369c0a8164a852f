"""Edges side by side as one program: the facts of edges alone, through the real engine."""

import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import time

import jax
import numpy as np
import pytest
from fake_wandb import FakeWandb
from tiny_sweep import PEAK, RHO, STEPS, SWEEP, results_of
from tiny_training import digest

from replay_jax.config.grid import chain, grid
from replay_jax.errors import UserError
from replay_jax.sweep.plan.plan import refresh
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.known import done
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.job import make_job
from replay_jax.sweep.train.messages import Advanced, Ended, Failed
from replay_jax.sweep.train.population import PopulationTrainer
from replay_jax.sweep.train.programs import ProgramCache
from replay_jax.training.averaging import abstract_averaged
from replay_jax.training.config import Profile
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.saving.checkpoint import restore_state
from replay_jax.training.step import abstract_state

LANES = {"execution__population": 3, "execution__workers": 1}


@pytest.fixture(scope="module")
def sent(study, tmp_path_factory):
    """A sweep trained as lanes: its working directory, and a stand-in for W&B that heard of it.

    Its worker is killed once in mid-training, which is to change nothing of all that is tested.
    """
    workdir, fake = tmp_path_factory.mktemp("lanes"), FakeWandb()
    killed: list[int] = []
    over = threading.Event()

    def killer():
        while not over.is_set() and not killed:
            time.sleep(0.02)
            progress = workdir / "progress.json"
            edges = json.loads(progress.read_text())["edges"] if progress.exists() else []
            for pid in {int(e["where"].split()[-1]) for e in edges if e["step"] > 3}:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", fake)
        outcome = study.train(SWEEP, workdir, **LANES, logging__wandb_project="p")
    over.set()
    thread.join()
    assert killed and outcome.failures == ()
    return workdir, fake


@pytest.fixture(scope="module")
def lanes(sent):
    return sent[0]


def losses(record):
    """Every number of a record that training decided, by where it is."""
    found = {f"losses.{k}": v for k, v in record["losses"].items()}
    for name in ("before", "after"):
        found |= {f"boundary.{name}.{k}": v for k, v in record["boundary"][name].items()}
    for point in record["curve"]:
        found |= {f"{point['step']}.{k}": v for k, v in point.items() if v is not None}
    return found


def segments(workdir):
    return {
        path.stem: {k: v for k, v in json.loads(path.read_text()).items() if k == "realised"}
        for path in (workdir / "segments").iterdir()
    }


def test_facts_are_those_of_edges_alone(finished_sweep, lanes):
    alone, together = results_of(finished_sweep), results_of(lanes)
    assert alone.keys() == together.keys() and len(alone) == len(SWEEP)
    for name, record in alone.items():
        assert together[name]["ledger"] == record["ledger"]
        ours, theirs = losses(together[name]), losses(record)
        assert ours.keys() == theirs.keys() and len(ours) > 10
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=1e-5), (name, key)
    assert segments(finished_sweep) == segments(lanes)
    assert verify(lanes) == ([], len(SWEEP))
    assert list((lanes / "states").iterdir()) == []


def test_trackers_hear_of_every_point(sent):
    workdir, fake = sent
    lines = (workdir / "results.jsonl").read_text().splitlines()
    known = {record["id"]: record for record in map(json.loads, lines)}
    assert fake.runs.keys() == known.keys() and len(known) == len(SWEEP)
    for id, run in fake.runs.items():
        assert list(run.points) == [point["step"] for point in known[id]["curve"]]


def test_the_number_of_lanes_belongs_to_a_working_directory(study, finished_sweep, lanes, tmp_path):
    grown = chain(SWEEP, [{RHO: 0.25}])
    solo = tmp_path / "solo"
    shutil.copytree(finished_sweep, solo)
    with pytest.raises(UserError, match="population = 3, not 1"):
        study.train(grown, lanes, execution__population=1)
    with pytest.raises(UserError, match="population = 1, not 4"):
        study.train(grown, solo, execution__population=4)
    with pytest.raises(UserError, match="splits a single model"):
        study.train(grown, lanes, execution__population=3, mesh__fsdp=2)


# Eight lanes on the eight fake devices, compiled once for all tests of a process.
PROGRAMS = ProgramCache()
SOLO = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])


class Served:
    """A population in this process, driven by hand."""

    def __init__(self, study, workdir, sweep):
        plan = study.plan(sweep, workdir, execution__keep_states=True)
        self.store = WorkStore(workdir)
        self.store.create({})
        self.plan = refresh(plan, done(self.store))
        self.study, self.stopping, self.heard = study, False, []
        self.trainer = PopulationTrainer(
            self.store, PROGRAMS, 8, tell=self.heard.append, should_stop=lambda: self.stopping
        )

    def job(self, number):
        """A task that saves its end and measures nothing (those programs take long to compile)."""
        task = self.plan.tasks[number]
        job = make_job(
            self.plan, task, store=self.store, stores=self.study.stores, accept_environment=False
        )
        return dataclasses.replace(job, measurements=())

    def end(self, number):
        """Every bit of a task's saved end."""
        task = self.plan.tasks[number]
        like = abstract_state(self.plan.runs[task.runs[0]].config.model, SOLO)
        return digest(restore_state(self.store.state_path(task.stop.digest), like)[0])

    def serve(self, jobs, *, stop_after=None, profile=None):
        for edge, job in jobs.items():
            self.trainer.admit(edge, job, profile)
        for update in range(1000):
            if self.trainer.is_idle:
                break
            self.stopping = stop_after is not None and update >= stop_after
            self.trainer.advance()
        return {m.edge: m for m in self.heard if not isinstance(m, Advanced)}


def test_a_lane_does_not_depend_on_its_neighbours_nor_on_interruptions(study, tmp_path):
    sweep = grid({"seed": [1, 2, 3], RHO: [0.5]})
    every = Served(study, tmp_path / "every", sweep)
    ends = every.serve({number: every.job(number) for number in range(3)})
    assert ends == {number: Ended(number, STEPS, True) for number in range(3)}
    # One alone, stopped after 4 updates and gone on with in another lane, behind another job.
    alone = Served(study, tmp_path / "alone", sweep)
    assert alone.serve({2: alone.job(2)}, stop_after=4) == {2: Ended(2, 4, False)}
    again = Served(study, tmp_path / "alone", sweep)
    assert again.plan.tasks[2].start.step == 4
    assert again.serve({0: again.job(0), 2: again.job(2)}).keys() == {0, 2}
    assert again.end(2) == every.end(2) and again.end(0) == every.end(0)
    assert every.end(0) != every.end(2)


def test_a_lane_is_averaged_beside_one_that_is_not_and_over_an_interruption(study, tmp_path):
    """Over the last two updates: after the first it is the parameters, then the mean of both."""
    last = {RHO: 0.5, "seed": 1, "training.average_last": 2 / STEPS}
    served = Served(study, tmp_path, [last, {RHO: 0.5, "seed": 2}])
    model = served.plan.runs[0].config.model
    like = abstract_averaged(abstract_state(model, SOLO), model)

    def state(step):
        run = served.plan.runs[0]
        found, _ = restore_state(served.store.state_path(run.node(step).digest), like)
        return jax.tree.map(np.asarray, (found.params, found.average))

    served.serve({0: served.job(0), 1: served.job(1)}, stop_after=STEPS - 1)
    before, first = state(STEPS - 1)
    assert digest(first) == digest(before)
    served = Served(study, tmp_path, [last, {RHO: 0.5, "seed": 2}])
    served.serve({0: served.job(0), 1: served.job(1)})
    after, second = state(STEPS)
    half = np.float32(0.5)
    assert digest(second) == digest(jax.tree.map(lambda a, b: half * a + half * b, before, after))
    assert digest(before) != digest(after)
    assert served.end(1)  # is read as a state without an average


def test_a_lane_that_fails_spares_the_others(study, tmp_path):
    sweep = grid({PEAK: [1e-2, 1e30, 3e-3], RHO: [0.5]})
    quiet = Served(study, tmp_path / "quiet", sweep)
    quiet.serve({0: quiet.job(0), 2: quiet.job(2)})
    served = Served(study, tmp_path / "w", sweep)
    ends = served.serve({0: served.job(0), 1: served.job(1)})
    assert isinstance(ends[1], Failed) and "Update 1 has loss" in ends[1].reason
    assert "NonFiniteLoss" in ends[1].details
    assert ends[0] == Ended(0, STEPS, True) and served.end(0) == quiet.end(0)
    params = jax.tree.leaves(served.trainer._states.params)
    assert not any(np.asarray(leaf).any() for leaf in params), "free lanes are to be zeros"
    # The lane that failed trains another as if nothing had been.
    assert served.serve({2: served.job(2)})[2] == Ended(2, STEPS, True)
    assert served.end(2) == quiet.end(2)


def test_edges_of_another_shape_wait_for_all_lanes(study, tmp_path):
    sweep = chain(grid({RHO: [0.5], "seed": [1, 2]}), [{RHO: 0.5, "training.seq_len": 8}])
    served = Served(study, tmp_path, sweep)
    served.serve({0: served.job(0), 2: served.job(2), 1: served.job(1)})
    assert [m.edge for m in served.heard if isinstance(m, Ended)] == [0, 1, 2]
    assert all(m.finished for m in served.heard if isinstance(m, Ended))


def test_one_lane_at_a_time_is_traced(study, tmp_path, monkeypatch):
    served, log = Served(study, tmp_path, grid({"seed": [1, 2], RHO: [0.5]})), []

    def at(what):
        log.append((what, sorted(lane.step for lane in served.trainer._busy)))

    monkeypatch.setattr(jax.profiler, "start_trace", lambda _: at("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: at("stop"))
    jobs = {0: served.job(0), 1: served.job(1)}
    served.serve(jobs, profile=Profile(3, 5, tmp_path / "trace"))
    assert log == [("start", [3, 3]), ("stop", [5, 5])]


def test_an_error_of_the_program_fails_its_lanes_and_leaves_the_trainer_whole(study, tmp_path):
    served = Served(study, tmp_path, grid({"seed": [1, 2, 3], RHO: [0.5]}))
    served.trainer.admit(0, served.job(0), None)
    served.trainer.advance()
    population = served.trainer._population

    def broken(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: too much")

    served.trainer._population = dataclasses.replace(population, step=broken)
    served.trainer.admit(1, served.job(1), None)
    served.trainer.advance()
    ends = served.serve({2: served.job(2)})
    assert ends[0].reason.startswith("out of memory") and ends[1].reason == ends[0].reason
    assert ends[2] == Ended(2, STEPS, True)


def test_seconds_are_counted_once(lanes):
    spent = [WorkStore(lanes).segment(path.stem) for path in (lanes / "segments").iterdir()]
    assert all(min(segment.seconds.values()) >= -1e-6 for segment in spent)
    assert all(segment.seconds["train"] > 0 for segment in spent)
