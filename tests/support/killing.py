"""kill -9 of a sweep's coordinator and workers, again and again, and what must come out of it."""

import contextlib
import json
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from forked import fork
from rich.console import Console
from tiny_sweep import TinyStudy, results_of

from replay_jax.config.grid import grid
from replay_jax.sweep.drive.engine import run_sweep
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.known import saved_states
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.workdir import WorkStore

# Two seeds, each with a shared stage 1 and two ends; a save every other step.
SWEEP = grid({"seed": [0, 1]}, {"schedule.replay_fraction": [0.0, 0.5]})
LONG = {
    "schedule__total_steps": 60, "schedule__target_epochs": 10.0, "training__evaluate_every": 20,
}  # fmt: skip
# Where kills fall, in turn: on training and saving, on a worker whose coordinator dies while it
# recovers from that, and on anything (starting, compiling, restoring).
KINDS = ("training", "recovering", "any time")


def coordinate(plan, stores, workdir):
    """A coordinator in a process of its own, as `replay-jax run` is; returns its outcome."""
    os.setpgrp()
    with WorkdirLock(workdir) as lock:
        return run_sweep(
            plan,
            lock,
            stores=stores,
            about={},
            ray_address=None,
            profile_steps=None,
            console=Console(quiet=True),
        )


def start(plan, stores, workdir) -> BaseProcess:
    """Start a coordinator, without the time that its imports take."""
    return fork(coordinate, (plan, stores, workdir))


def killed_and_whole_agree(
    study: TinyStudy, folder: Path, *, kills: int, seed: int, population: int
) -> None:
    """Train a sweep in peace and one that is killed so often: same results, same ledgers."""
    whole, broken = folder / "whole", folder / "broken"
    # What nobody kills saves where runs part alone: a save costs as much as ten updates.
    seldom = {**LONG, "execution__population": population, "checkpoint__every": 0}
    often = {**seldom, "checkpoint__every": 2}
    here = population == 1
    study.train(SWEEP, whole, here=here, **seldom)
    chance = random.Random(seed)
    (broken / "segments").mkdir(parents=True)
    for kill in range(kills):
        # Mostly one worker, for the time it takes to start one.
        workers = 2 if kill % 4 == 1 else 1
        plan = study.plan(SWEEP, broken, execution__workers=workers, **often)
        before = _spans(broken)
        strike(start(plan, study.stores, broken), broken, KINDS[kill % len(KINDS)], chance)
        # What is there can be read at any time.
        saved_states(WorkStore(broken))
        assert _spans(broken) >= before
    study.train(SWEEP, broken, here=here, **seldom)
    assert results_of(broken) == results_of(whole)
    assert verify(broken) == ([], len(SWEEP))
    # States are dropped when nothing goes on from them, and are not missed afterwards.
    assert list((broken / "states").iterdir()) == []
    assert study.plan(SWEEP, broken, **often).steps_remaining == 0


def strike(process: BaseProcess, workdir: Path, kind: str, chance: random.Random) -> None:
    """kill -9 at a moment of a kind."""
    if kind == "any time":
        time.sleep(chance.uniform(0.0, 2.0))
    else:
        _wait_for_news(workdir, process)
        time.sleep(chance.uniform(0.0, 0.4))
    if kind == "recovering":
        for pid in workers_of(workdir)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(chance.uniform(0.0, 0.3))
    process.kill()
    process.join()


def workers_of(workdir: Path) -> list[int]:
    """Process ids of the workers that the coordinator reported last."""
    path = workdir / "progress.json"
    edges = json.loads(path.read_text())["edges"] if path.exists() else []
    return [int(edge["where"].split()[-1]) for edge in edges]


def _wait_for_news(workdir: Path, process: BaseProcess) -> None:
    """Until another span is on disk, so that kills fall on training and saving."""
    seen = _spans(workdir)
    while process.is_alive() and _spans(workdir) <= seen:
        time.sleep(0.01)


def _spans(workdir: Path) -> int:
    return len(list((workdir / "segments").glob("*.json")))
