"""kill -9 of anything at any time: a sweep that was killed twenty times ends as if it never was."""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time

from rich.console import Console
from tiny_sweep import results_of

from replay_jax.config.grid import grid
from replay_jax.sweep.drive.engine import run_sweep
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.verify import verify
from replay_jax.sweep.store.workdir import WorkStore

KILLS = 20
# Two seeds, each with a shared stage 1 and two ends; a save every other step.
SWEEP = grid({"seed": [0, 1]}, {"schedule.replay_fraction": [0.0, 0.5]})
LONG = {"schedule__total_steps": 60, "schedule__target_epochs": 10.0}
OFTEN = {**LONG, "checkpoint__every": 2}


def coordinate(plan, stores, workdir):
    """A coordinator in a process of its own, as `replay-jax run` is."""
    os.setpgrp()
    with WorkdirLock(workdir) as lock:
        run_sweep(
            plan,
            lock,
            stores=stores,
            about={},
            ray_address=None,
            profile_steps=None,
            console=Console(quiet=True),
        )


def workers_of(workdir) -> list[int]:
    """Process ids of the workers that the coordinator reported last."""
    path = workdir / "progress.json"
    edges = json.loads(path.read_text())["edges"] if path.exists() else []
    return [int(edge["where"].split()[-1]) for edge in edges]


def wait_for_news(workdir, seen: int, process) -> None:
    """Until another span is on disk, so that kills fall on training and saving."""
    while process.is_alive() and len(list((workdir / "segments").glob("*.json"))) <= seen:
        time.sleep(0.01)


def spans(workdir) -> int:
    return len(list((workdir / "segments").glob("*.json")))


def test_twenty_kills_change_nothing(study, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    study.train(SWEEP, whole, **LONG)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["replay_jax.sweep.drive.engine"])
    chance = random.Random(7)
    (broken / "segments").mkdir(parents=True)
    for kill in range(KILLS):
        # Mostly one worker, for the time it takes to start one.
        workers = 2 if kill % 4 == 0 else 1
        plan = study.plan(SWEEP, broken, execution__workers=workers, **OFTEN)
        before = spans(broken)
        process = context.Process(target=coordinate, args=(plan, study.stores, broken))
        process.start()
        if kill % 5 == 4:
            # Any time at all: while starting, compiling, restoring.
            time.sleep(chance.uniform(0.0, 2.0))
        else:
            wait_for_news(broken, before, process)
            time.sleep(chance.uniform(0.0, 0.4))
        if kill % 3 == 2:
            # A worker first; its coordinator may be killed while it is still recovering from that.
            for pid in workers_of(broken)[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        process.join()
        # What is there can be read at any time.
        WorkStore(broken).saved_states()
        assert spans(broken) >= before
    study.train(SWEEP, broken, **OFTEN)
    assert results_of(broken) == results_of(whole)
    assert verify(broken) == ([], len(SWEEP))
    assert list((broken / "states").iterdir()) == []


def test_sigterm_saves_and_the_next_start_goes_on_from_there(study, tmp_path):
    context = multiprocessing.get_context("forkserver")
    plan = study.plan(SWEEP[:1], tmp_path, **LONG, checkpoint__every=0)
    process = context.Process(target=coordinate, args=(plan, study.stores, tmp_path))
    process.start()
    metrics = tmp_path / "metrics"
    while process.is_alive() and not any(p.stat().st_size for p in metrics.glob("*/*.jsonl")):
        time.sleep(0.01)
    process.terminate()
    process.join()
    saved = WorkStore(tmp_path).saved_states()
    assert len(saved) == 1 and 0 < min(saved.values()) < 60
    assert study.plan(SWEEP[:1], tmp_path, **LONG).steps_remaining == 60 - min(saved.values())
