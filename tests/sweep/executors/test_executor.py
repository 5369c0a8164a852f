"""Worker processes: how many, failures that spare siblings, lost workers, one coordinator."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console
from tiny_sweep import PEAK, RHO, SWEEP, results_of

from replay_jax.config.grid import chain, grid
from replay_jax.errors import UserError
from replay_jax.sweep.drive.engine import KeptExecutor, run_sweep
from replay_jax.sweep.drive.status import sweep_status
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.outcome import describe_error


def test_running_out_of_memory_is_said_in_plain_words():
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.\nmore")
    assert describe_error(error).startswith("out of memory: RESOURCE_EXHAUSTED")
    assert describe_error(ValueError("one\ntwo")) == "one"
    assert describe_error(KeyError("k")) == "KeyError: 'k'"


def test_a_failed_run_spares_its_siblings(study, tmp_path):
    sweep = chain(grid({RHO: [0.0, 0.5], PEAK: [1e-2]}), grid({RHO: [0.0, 0.5], PEAK: [1e30]}))
    outcome = study.train(sweep, tmp_path, here=True)
    assert outcome.results == 2 and len(outcome.failures) == 2
    assert all("Update 1 has loss" in line for line in outcome.failures), outcome.failures
    found = {run["name"]: run for run in sweep_status(tmp_path)["runs"]}
    states = {name: run["state"] for name, run in found.items()}
    assert [states[name] for name in sorted(states) if "peak=0.01" in name] == ["done"] * 2
    assert [states[name] for name in sorted(states) if "peak=1e+30" in name] == ["failed"] * 2
    reasons = {run["reason"] for run in found.values() if run["state"] == "failed"}
    assert all(reason and "Update" in reason for reason in reasons)
    assert set(results_of(tmp_path)) == {n for n, state in states.items() if state == "done"}
    # What failed is tried again, and nothing else.
    plan = study.plan(sweep, tmp_path)
    assert {run for task in plan.tasks for run in task.runs} == {2, 3}


def test_a_killed_worker_is_replaced_and_changes_no_result(study, finished_sweep, tmp_path):
    killed: list[int] = []
    over = threading.Event()

    def killer():
        while not over.is_set() and not killed:
            time.sleep(0.02)
            progress = tmp_path / "w" / "progress.json"
            edges = json.loads(progress.read_text())["edges"] if progress.exists() else []
            for pid in [int(e["where"].split()[-1]) for e in edges][:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    outcome = study.train(SWEEP[:2], tmp_path / "w", execution__workers=2)
    over.set()
    thread.join()
    assert killed and outcome.failures == ()
    assert len(results_of(tmp_path / "w")) == 2
    assert results_of(tmp_path / "w").items() <= results_of(finished_sweep).items()
    environments = WorkStore(tmp_path / "w").environments()
    assert environments == WorkStore(finished_sweep).environments()


def test_workers_killed_between_two_sweeps_are_replaced(study, finished_sweep, tmp_path):
    """As those of one budget's rounds, which keep their processes while runs are chosen."""
    how = dict(stores=study.stores, about={}, ray_address=None, profile_steps=None,
               console=Console(quiet=True))  # fmt: skip
    with WorkdirLock(tmp_path) as lock, KeptExecutor() as kept:
        processes = []
        for runs in (SWEEP[:1], SWEEP[:2]):
            for process in processes:
                process.kill()
                process.wait()
            outcome = run_sweep(study.plan(runs, tmp_path), lock, kept=kept, **how)
            assert outcome.failures == ()
            workers = kept.of(kept._key, None)._workers
            assert workers and not {w.process.pid for w in workers} & {p.pid for p in processes}
            processes = [worker.process for worker in workers]
    assert len(results_of(tmp_path)) == 2
    assert results_of(tmp_path).items() <= results_of(finished_sweep).items()


def test_two_coordinators_never_share_a_workdir(study, finished_sweep, tmp_path):
    # The first holds the lock as long as it lives; the second refuses and changes nothing.
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match=f"in use by process {holder.pid} "):
        study.train(grid({RHO: [0.0]}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "lease"}
    holder.kill()
    holder.wait()
    # It is free then; nothing is left to train in this one.
    shutil.copytree(finished_sweep, tmp_path, dirs_exist_ok=True)
    assert study.train(SWEEP[:1], tmp_path).results == 1


_HOLD = """
import sys
from pathlib import Path
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.workdir import WorkStore
with WorkdirLock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_runs_that_cannot_be_are_refused_before_any_training(study, tmp_path):
    with pytest.raises(UserError, match="run 'target_epochs=100': .*100"):
        study.train([{"schedule.target_epochs": 100.0}], tmp_path / "a")
    with pytest.raises(UserError, match="are the same run"):
        study.train([{"seed": 0}, {"seed": 0, RHO: 0.0}], tmp_path / "b")
    with pytest.raises(UserError, match="model.vocab_size is 100"):
        study.train([{"model.vocab_size": 100}], tmp_path / "c")
    with pytest.raises(UserError, match="evaluation.sequences is 10000"):
        study.train([{"evaluation.sequences": 10_000}], tmp_path / "d")
    with pytest.raises(UserError, match="another execution"):
        study.train(grid({"execution.workers": [1, 2]}), tmp_path / "e")
    assert not any((tmp_path / name).exists() for name in "abcde")


def test_what_the_devices_cannot_do_is_refused_before_any_training(study, tmp_path):
    # Only the worker knows its devices; its refusal is the sweep's, and no failure of a run.
    with pytest.raises(UserError, match="run 'replay_fraction=0': mesh.tensor 2 does not divide 1"):
        study.train(grid({RHO: [0.0, 0.5]}), tmp_path, mesh__tensor=2)
    assert list((tmp_path / "failures").iterdir()) == []
    assert {run["state"] for run in sweep_status(tmp_path)["runs"]} == {"planned"}
