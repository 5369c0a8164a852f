"""Edges side by side as one program: the facts of edges alone, through the real engine."""

import dataclasses
import json
import os
import signal
import threading
import time

import pytest
from tiny_sweep import STEPS, make_study, results_of, use_one_device

from replay_jax.errors import UserError
from replay_jax.sweep.grid import chain, grid
from replay_jax.sweep.jobs import make_job
from replay_jax.sweep.messages import Advanced, Ended, Failed
from replay_jax.sweep.plan import refresh
from replay_jax.sweep.population_edge import PopulationTrainer
from replay_jax.sweep.programs import ProgramCache
from replay_jax.sweep.store import WorkStore
from replay_jax.sweep.verify import verify

RHO = "schedule.replay_fraction"
PEAK = "schedule.learning_rate.peak"
RESET = {
    "schedule.stage2_learning_rate": {
        "peak": 3e-3, "shape": "cosine", "warmup_fraction": 0.0, "decay_fraction": None,
        "final_ratio": 0.0,
    },
    "schedule.stage2_optimizer": "reset",
}  # fmt: skip
# Edges of several lengths and starts, a reset, other seeds, rates and decays, and another shape.
SWEEP = chain(
    grid({RHO: [0.0, 0.5, 0.75]}),
    [{RHO: 0.5, **RESET}],
    [{RHO: 0.5, "seed": 1}, {RHO: 0.5, PEAK: 3e-3}, {RHO: 0.5, "optimizer.weight_decay": 0.5}],
    [{RHO: 0.0, "training.seq_len": 8}],
)
LANES = {"execution__population": 3, "execution__workers": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "")
        use_one_device(tmp_path_factory.getbasetemp().parent)
        yield make_study(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def solo(study, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("solo")
    assert study.train(SWEEP, workdir).failures == ()
    return workdir


@pytest.fixture(scope="module")
def lanes(study, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("lanes")
    assert study.train(SWEEP, workdir, **LANES).failures == ()
    return workdir


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


def test_facts_are_those_of_edges_alone(solo, lanes):
    alone, together = results_of(solo), results_of(lanes)
    assert alone.keys() == together.keys() and len(alone) == len(SWEEP)
    for name, record in alone.items():
        assert together[name]["ledger"] == record["ledger"]
        ours, theirs = losses(together[name]), losses(record)
        assert ours.keys() == theirs.keys() and len(ours) > 10
        for key, value in theirs.items():
            assert ours[key] == pytest.approx(value, rel=1e-5), (name, key)
    assert segments(solo) == segments(lanes)
    assert verify(lanes) == ([], len(SWEEP))
    assert list((lanes / "states").iterdir()) == []


def test_the_number_of_lanes_belongs_to_a_working_directory(study, solo, lanes):
    grown = chain(SWEEP, [{RHO: 0.25}])
    with pytest.raises(UserError, match="population = 3, not 1"):
        study.train(grown, lanes, execution__population=1)
    with pytest.raises(UserError, match="population = 1, not 4"):
        study.train(grown, solo, execution__population=4)
    # Chosen by itself it stays what it was.
    assert study.train(grown, lanes, execution__workers=1).failures == ()
    assert WorkStore(lanes).common()["population"] == 3


# Eight lanes on the eight fake devices, compiled once for all tests of a process.
PROGRAMS = ProgramCache()


class Served:
    """A population in this process, driven by hand."""

    def __init__(self, study, workdir, sweep, **changes):
        plan = study.plan(sweep, workdir, **{**LANES, **changes})
        self.store = WorkStore(workdir)
        self.store.create({})
        self.plan = refresh(plan, self.store)
        self.study, self.stopping, self.heard = study, False, []
        self.trainer = PopulationTrainer(
            self.store, PROGRAMS, 8, tell=self.heard.append, should_stop=lambda: self.stopping
        )

    def job(self, number):
        return make_job(self.plan, self.plan.tasks[number], store=self.store,
                        stores=self.study.stores)  # fmt: skip

    def serve(self, jobs, *, stop_after=None):
        for edge, job in jobs.items():
            self.trainer.admit(edge, job, None)
        for update in range(1000):
            if self.trainer.is_idle:
                break
            self.stopping = stop_after is not None and update >= stop_after
            self.trainer.advance()
        return {m.edge: m for m in self.heard if not isinstance(m, Advanced)}


def evaluations(workdir):
    return {path.name: path.read_bytes() for path in (workdir / "evaluations").iterdir()}


def test_a_lane_does_not_depend_on_its_neighbours_nor_on_interruptions(study, tmp_path):
    sweep = grid({"seed": [1, 2, 3], RHO: [0.5], PEAK: [1e-2]})
    every = Served(study, tmp_path / "every", sweep)
    ends = every.serve({number: every.job(number) for number in range(3)})
    assert ends == {number: Ended(number, STEPS, True) for number in range(3)}
    # One alone, stopped after 4 updates and gone on with in another lane, behind another job.
    alone = Served(study, tmp_path / "alone", sweep)
    assert alone.serve({2: alone.job(2)}, stop_after=4) == {2: Ended(2, 4, False)}
    again = Served(study, tmp_path / "alone", sweep)
    assert again.plan.tasks[2].start.step == 4
    again.serve({0: dataclasses.replace(again.job(0), measurements=()), 2: again.job(2)})
    mine = evaluations(tmp_path / "alone")
    theirs = evaluations(tmp_path / "every")
    assert len(mine) >= len(theirs) / 3 - 1 and mine.items() <= theirs.items()


def test_a_lane_that_fails_spares_the_others(study, tmp_path):
    sweep = grid({PEAK: [1e-2, 1e30, 3e-3, 2e-3], RHO: [0.5]})
    quiet = Served(study, tmp_path / "quiet", sweep)
    good = {number: quiet.job(number) for number in (0, 2, 3)}
    quiet.serve(good)
    served = Served(study, tmp_path / "w", sweep)
    ends = served.serve({number: served.job(number) for number in range(4)})
    assert isinstance(ends[1], Failed) and "Update 1 has loss" in ends[1].reason
    assert "NonFiniteLoss" in ends[1].details
    for number in (0, 2, 3):
        assert ends[number] == Ended(number, STEPS, True)
    # The fourth trained in the place of the one that had failed.
    mine = evaluations(tmp_path / "w")
    assert evaluations(tmp_path / "quiet").items() <= mine.items()


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


def test_killed_populations_lose_nothing(study, solo, lanes, tmp_path):
    killed: list[int] = []
    over = threading.Event()

    def killer():
        while not over.is_set() and len(killed) < 2:
            time.sleep(0.02)
            progress = tmp_path / "progress.json"
            edges = json.loads(progress.read_text())["edges"] if progress.exists() else []
            for pid in {int(e["where"].split()[-1]) for e in edges if e["step"] > 3}:
                if pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    outcome = study.train(SWEEP[:7], tmp_path, **LANES)
    over.set()
    thread.join()
    assert killed and outcome.failures == ()
    found, whole = results_of(tmp_path), results_of(lanes)
    assert len(found) == 7
    # To the last bit: what a lane gives does not depend on which lane, with whom and how often.
    assert {name: losses(record) for name, record in found.items()} == {
        name: losses(whole[name]) for name in found
    }
    assert verify(tmp_path) == ([], 7)
