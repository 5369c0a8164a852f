"""Who has stopped answering is said, and replaced; what cannot be locked or asked is a sentence."""

import subprocess
import sys
import time
from multiprocessing import Pipe

import pytest
from rich.console import Console

from replay_jax.errors import UserError
from replay_jax.sweep.drive.status import render_status, sweep_status
from replay_jax.sweep.executors.local import workers
from replay_jax.sweep.executors.local.choice import WorkerChoice
from replay_jax.sweep.executors.local.machine import local_devices
from replay_jax.sweep.executors.local.worker import BEAT
from replay_jax.sweep.executors.local.workers import LocalWorkers, _Worker
from replay_jax.sweep.store.facts import write_fact
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.train.messages import Lost


def test_a_worker_that_says_nothing_is_ended_and_its_edge_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_SILENCE_SECONDS", 0.5)
    ours, theirs = Pipe()
    (tmp_path / "log").touch()
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    it = LocalWorkers(tmp_path, WorkerChoice(1, 1, ""), lanes=1, lock_fd=-1)
    it._workers.append(_Worker(process, ours, tmp_path / "log", edges={3}))
    began = time.monotonic()
    while time.monotonic() - began < 1.0:
        theirs.send(BEAT)
        assert it.poll(0.05) == []
    theirs.close()
    while not (news := it.poll(0.05)):
        assert time.monotonic() - began < 20
    (lost,) = news
    assert isinstance(lost, Lost) and "stopped answering" in lost.reason
    assert process.returncode is not None


def test_a_coordinator_that_was_stopped_itself_blames_no_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_SILENCE_SECONDS", 1.0)
    ours, theirs = Pipe()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    it = LocalWorkers(tmp_path, WorkerChoice(1, 1, ""), lanes=1, lock_fd=-1)
    worker = _Worker(process, ours, tmp_path / "log", edges={3})
    it._workers.append(worker)
    it._polled = worker.heard = time.monotonic() - 100.0
    assert it.poll(0.0) == [] and not worker.silent
    process.kill()
    process.wait()
    theirs.close()


def test_a_platform_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(UserError, match=r"no devices here \(JAX_PLATFORMS=cuda\): \w"):
        local_devices()


def test_status_says_since_when_a_coordinator_is_silent(tmp_path):
    write_fact(tmp_path / "workdir.json", {"format": 4, "common": {}})
    write_fact(tmp_path / "sweep.json", {"runs": []})
    fact = {"steps_done": 0, "steps_total": 9, "seconds_left": None, "edges": []}
    with WorkdirLock(tmp_path):
        for age, words in ((2.0, "is at work"), (300.0, "stopped answering 5 min ago")):
            write_fact(tmp_path / "progress.json", {**fact, "time": time.time() - age})
            found = sweep_status(tmp_path)
            assert found["silent_seconds"] == pytest.approx(age, abs=1.0)
            console = Console(record=True, quiet=False, file=open("/dev/null", "w"), width=200)
            console.print(render_status(found))
            assert words in console.export_text()
