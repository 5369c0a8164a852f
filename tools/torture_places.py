"""Faults of places: a disk that is full, or read-only, from the start or all of a sudden."""

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

from torture_arena import (
    OFTEN,
    SWEEP,
    Arena,
    Wrong,
    ending,
    finish,
    one_sentence,
    start,
    wait_for_spans,
)

from replay_jax.config.experiment import resolve
from replay_jax.data.tokens.prepare import prepare
from replay_jax.errors import UserError

_FULL = ("No space left on device", "Disk quota exceeded")
_READ_ONLY = ("Read-only file system",)


def full_disk(arena: Arena, chance: random.Random) -> str:
    """The working directory's disk is full before or while it trains; then it is larger."""
    workdir = arena.fresh() / "disk"
    with _tmpfs(workdir, kilobytes := chance.choice((4, 40, 100, 150, 200, 300, 500))):
        said = _refused(arena, workdir, start(arena, workdir), _FULL)
        _mount("-o", "remount,size=64m", str(workdir))
        finish(arena, workdir)
    return f"{said}, then same, with {kilobytes} kB"


def read_only(arena: Arena, chance: random.Random) -> str:
    """The working directory's disk becomes read-only while it trains; then it can be written to."""
    workdir = arena.fresh() / "disk"
    with _tmpfs(workdir, 64_000):
        if chance.random() < 0.2:
            _mount("-o", "remount,ro", str(workdir))
            process = start(arena, workdir)
        else:
            process = start(arena, workdir)
            wait_for_spans(workdir, process, chance.choice((1, 2, 4)))
            time.sleep(chance.uniform(0.0, 0.5))
            # Refused as busy while a file is open for writing; tried until it is not.
            while process.is_alive() and not _try_mount("-o", "remount,ro", str(workdir)):
                time.sleep(0.005)
        said = _refused(arena, workdir, process, _READ_ONLY)
        _mount("-o", "remount,rw", str(workdir))
        finish(arena, workdir)
    return f"{said}, then same"


def read_only_stores(arena: Arena, chance: random.Random) -> str:
    """Prepared stores on a disk that is only read are as good as any."""
    stores, workdir = arena.folder / "stores", arena.fresh()
    _mount("--bind", str(stores), str(stores))
    try:
        _mount("-o", "remount,bind,ro", str(stores))
        prepare(resolve(arena.study.config.to_dict()).data)
        arena.study.train(SWEEP, workdir, here=True, **OFTEN)
    except UserError as error:
        raise Wrong(f"read-only stores: {error}") from error
    finally:
        subprocess.run(["umount", str(stores)], check=True)
    finish(arena, workdir)
    return "same"


def _refused(arena: Arena, workdir: Path, process: BaseProcess, words: tuple[str, ...]) -> str:
    """How a sweep ended that could not write: done before, or one sentence with these words."""
    end, said = ending(arena, process)
    if end != "done" and not (one_sentence(said, words) and str(workdir) in said):
        raise Wrong(f"{end}: {said}")
    return end


@contextlib.contextmanager
def _tmpfs(folder: Path, kilobytes: int) -> Iterator[None]:
    if os.getuid():
        raise SystemExit("disks are made with mount, which needs root: leave this fault out")
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _try_mount(*arguments: str) -> bool:
    return not subprocess.run(["mount", *arguments], stderr=subprocess.DEVNULL).returncode
