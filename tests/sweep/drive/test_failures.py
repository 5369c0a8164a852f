"""What fails is tried again, gone back from, remembered or the user's, by its kind."""

import json
import shutil

import pytest
from rich.console import Console
from tiny_sweep import results_of

from replay_jax.config.grid import chain
from replay_jax.sweep.drive import coordinator
from replay_jax.sweep.drive.coordinator import Coordinator
from replay_jax.sweep.drive.live import SweepView
from replay_jax.sweep.drive.tracking import Tracking
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.messages import Failed

RHO, PEAK = "schedule.replay_fraction", "schedule.learning_rate.peak"
SWEEP = [{RHO: 0.0}, {RHO: 0.5}, {RHO: 0.0, PEAK: 1e30}]
KEPT = {"execution__keep_states": True}


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """Two finished runs with kept states, and one that diverges."""
    workdir = tmp_path_factory.mktemp("finished")
    outcome = study.train(SWEEP, workdir, here=True, **KEPT)
    assert outcome.results == 2 and len(outcome.failures) == 1
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(finished, tmp_path / "copy")


class Refusing:
    """An executor whose jobs all end like that at once."""

    slots = workers = lanes = 1

    def __init__(self, failed):
        self.failed, self.jobs, self._news = failed, [], []

    def submit(self, edge, job, *, after, profile):
        self.jobs.append(job)
        self._news.append(Failed(edge, *self.failed))

    def poll(self, seconds):
        news, self._news = self._news, []
        return news

    def stop(self):
        pass


def coordinate(study, sweep, workdir, executor, *, retry_failed=False):
    """Carry a sweep out by a stand-in for workers; returns the coordinator."""
    plan, store = study.plan(sweep, workdir, **KEPT), WorkStore(workdir)
    store.create({})
    with SweepView(plan, Console(quiet=True)) as view, Tracking(store, {}) as tracking:
        it = Coordinator(
            plan,
            store,
            study.stores,
            executor,
            view,
            tracking,
            None,
            accept_environment=False,
            retry_failed=retry_failed,
        )
        it.run()
    return it


def test_a_fault_of_storage_is_tried_again_after_a_pause(study, tmp_path, monkeypatch):
    monkeypatch.setattr(coordinator, "PAUSES", (0.01, 0.02))
    executor = Refusing(("Input/output error", "", "transient"))
    coordinate(study, [{RHO: 0.0}], tmp_path, executor)
    assert len(executor.jobs) == 3
    (fact,) = WorkStore(tmp_path).failures().values()
    assert fact["kind"] == "transient" and fact["reason"] == "Input/output error"
    # The next command begins anew.
    again = Refusing(("Input/output error", "", "transient"))
    coordinate(study, [{RHO: 0.0}], tmp_path, again)
    assert len(again.jobs) == 3


def test_what_would_fail_again_is_not_trained_again_unless_asked_for(study, workdir, monkeypatch):
    failed = ("Update 1 has loss nan", "", "deterministic")
    executor = Refusing(failed)
    it = coordinate(study, SWEEP, workdir, executor)
    assert executor.jobs == []
    (line,) = it.outcome().failures
    assert "known from before" in line and "--retry_failed" in line and "Update" in line
    asked = Refusing(failed)
    coordinate(study, SWEEP, workdir, asked, retry_failed=True)
    assert len(asked.jobs) == 1


def test_another_environment_tries_again(study, workdir, monkeypatch):
    monkeypatch.setattr(coordinator, "software", lambda: {"jax": "0.0.1"})
    executor = Refusing(("Update 1 has loss nan", "", "deterministic"))
    coordinate(study, SWEEP, workdir, executor)
    assert len(executor.jobs) == 1


def test_a_damaged_state_means_the_one_before(study, workdir, tmp_path):
    """A third run begins from a kept state, of which a file is empty; it is trained around it."""
    grown = chain(SWEEP[:2], [{RHO: 0.25}])
    plan = study.plan(grown, workdir, **KEPT)
    task = plan.tasks[0]
    assert task.start.step > 0
    folder = workdir / "states" / task.start.digest
    for path in folder.rglob("*"):
        if path.is_file() and "state" in path.parts and path.name != "commit_success.txt":
            path.write_bytes(b"")
    outcome = study.train(grown, workdir, here=True, **KEPT)
    assert outcome.failures == () and outcome.results == 3
    assert [path.name for path in (workdir / "damaged").iterdir()] == [f"{task.start.digest}-0"]
    assert verify(workdir) == ([], 3)
    study.train([{RHO: 0.25}], tmp_path / "alone", here=True)
    (alone,) = results_of(tmp_path / "alone").values()
    assert results_of(workdir)[alone["name"]] == alone


def test_a_branch_that_was_saved_against_an_interruption_is_kept_as_a_branch(study, workdir):
    """Killed at a checkpoint where runs part, and finished since: the plan knows, not the meta."""
    branch = study.plan(SWEEP[:2], workdir, **KEPT).edges[0].stop.digest
    meta = workdir / "states" / branch / "meta" / "metadata"
    assert json.loads(meta.read_text())["checkpoint"] is False
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "checkpoint": True}))
    coordinate(study, SWEEP[:2], workdir, Refusing(("never asked", "", "mistake")))
    assert (workdir / "states" / branch).exists()


def test_a_failure_says_its_kind_and_where_it_happened(finished):
    (path,) = (finished / "failures").glob("*.json")
    fact = json.loads(path.read_text())
    assert fact["kind"] == "deterministic"
    assert fact["environment"] in WorkStore(finished).environments()
