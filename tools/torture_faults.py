"""Faults of processes: killed, stopped for a while or for ever, two at once, damaged programs."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from killing import KINDS, killed_and_whole_agree, strike, workers_of
from torture_arena import Arena, Wrong, ending, finish, spans, start, wait_for_spans

# A worker says nothing for so long before it is replaced; in most trials a third.
_IN_EARNEST, _SILENCE_SECONDS = 60.0, 20.0
_NOTICED_SECONDS = 90.0


def kill(arena: Arena, chance: random.Random) -> str:
    """kill -9 of coordinator or worker, one to three times in one sweep."""
    workdir = arena.fresh()
    kinds = [chance.choice(KINDS) for _ in range(chance.choice((1, 1, 2, 3)))]
    for kind in kinds:
        process = start(arena, workdir, workers=chance.choice((1, 1, 1, 2)))
        before = spans(workdir)
        strike(process, workdir, kind, chance)
        if spans(workdir) < before:
            raise Wrong("spans are gone")
    finish(arena, workdir)
    return f"same, after {len(kinds)}"


def kill_lanes(arena: Arena, chance: random.Random) -> str:
    """kill -9, three times, of a sweep whose worker trains up to three edges as lanes."""
    seed = chance.randrange(1 << 30)
    killed_and_whole_agree(arena.study, arena.fresh(), kills=3, seed=seed, population=3)
    return "same, after 3"


def stop(arena: Arena, chance: random.Random) -> str:
    """SIGSTOP of a worker or of the coordinator, then SIGCONT, kill -9, or nothing for ever."""
    workdir = arena.fresh()
    silence = chance.choice((_IN_EARNEST, *[_SILENCE_SECONDS] * 7))
    process = start(arena, workdir, silence=silence)
    wait_for_spans(workdir, process, chance.choice((1, 1, 2, 4)))
    time.sleep(chance.uniform(0.0, 0.3))
    whom = chance.choice(("worker", "coordinator"))
    pids = workers_of(workdir)[:1] if whom == "worker" else [process.pid]
    fate = chance.choice(("goes on", "is killed", "stays"))
    for pid in pids:
        _stopped(pid, fate, chance)
        if whom == "worker" and fate == "stays":
            fate = f"stays for {_seconds_until_gone(pid):.0f} s of {silence:.0f}"
    if whom == "coordinator" and fate == "stays":
        # Nobody can follow while it holds the lock; it is killed at last.
        process.kill()
    killed = whom == "coordinator" and fate != "goes on"
    if killed:
        process.join()
    else:
        end, words = ending(arena, process)
        if end != "done":
            raise Wrong(f"a stopped {whom} that {fate}: {end}, {words}")
    finish(arena, workdir)
    return f"same: the {whom} {fate}"


def _stopped(pid: int, fate: str, chance: random.Random) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(chance.uniform(0.1, 2.0))
        if fate == "goes on":
            os.kill(pid, signal.SIGCONT)
        elif fate == "is killed":
            os.kill(pid, signal.SIGKILL)


def _seconds_until_gone(pid: int) -> float:
    """How long a stopped process is left; Wrong if that is longer than is promised."""
    began = time.monotonic()
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() - began > _NOTICED_SECONDS:
            raise Wrong(f"a frozen worker is there after {_NOTICED_SECONDS:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - began


def two(arena: Arena, chance: random.Random) -> str:
    """Two coordinators begin within a second: one trains, the other refuses and harms nothing."""
    workdir = arena.fresh()
    first = start(arena, workdir)
    time.sleep(chance.choice((0.0, chance.uniform(0.0, 1.0))))
    second = start(arena, workdir)
    ends = sorted(ending(arena, process) for process in (first, second))
    if [end for end, _ in ends] not in (["done", "refused"], ["done", "done"]):
        raise Wrong(f"two coordinators: {ends}")
    if ends[1][0] == "refused" and "is in use by" not in ends[1][1]:
        raise Wrong(f"two coordinators: {ends}")
    finish(arena, workdir)
    return f"same: {ends[0][0]} and {ends[1][0]}"


def compiled(arena: Arena, chance: random.Random) -> str:
    """A compiled program on disk is damaged, and workers load it."""
    programs = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    path = chance.choice(sorted(item for item in programs.rglob("*") if item.is_file()))
    content = bytearray(path.read_bytes())
    if chance.random() < 0.5 and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    else:
        content = content[: chance.randrange(len(content) + 1)]
    path.write_bytes(content)
    workdir = arena.fresh()
    try:
        end, words = ending(arena, start(arena, workdir))
    finally:
        path.unlink(missing_ok=True)
    if end != "done":
        raise Wrong(f"{path.name[:40]}: {end}, {words}")
    finish(arena, workdir)
    return "same"
