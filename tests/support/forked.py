"""Processes of a test that import nothing again: forks of one that has imported all.

That one has started no backend of JAX, so each fork has devices, threads and an exit of its own.
"""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fake_devices import flags

_IMPORTED = ["replay_jax.library.running", "replay_jax.sweep.executors.hosts.member"]


def fork(target: Callable[..., Any], arguments: tuple[Any, ...]) -> BaseProcess:
    """Start a function in a process that has imported what runs a sweep."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


class Command:
    """`replay-jax` with so many CPU devices, in a forked process; its report has no pictures."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], *, devices: int = 1) -> None:
        self._said = folder / f"said {os.getpid()} {id(self)}"
        self._process = fork(_command, (folder, arguments, devices, self._said))
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.exitcode

    def end(self, timeout: float = 300.0) -> tuple[int | None, str, str]:
        """Wait for it: its exit code, what it printed, and its complaints."""
        self._process.join(timeout)
        out, err = (self._said.with_suffix(f".{n}") for n in (1, 2))
        return self._process.exitcode, out.read_text(), err.read_text()


def _command(folder: Path, arguments: tuple[str, ...], devices: int, said: Path) -> None:
    import vl_convert

    from replay_jax.commands.main import main

    os.chdir(folder)
    os.environ["XLA_FLAGS"] = flags(devices)
    for number in (1, 2):
        os.dup2(os.open(said.with_suffix(f".{number}"), os.O_WRONLY | os.O_CREAT), number)
    vl_convert.javascript_bundle = lambda *_, **__: ""
    vl_convert.vegalite_to_svg = lambda *_, **__: "<svg/>"
    vl_convert.svg_to_png = lambda *_, **__: b"png"
    code = main(arguments)
    sys.stdout.flush()
    # As at the end of any program, but not of a forked process: JAX takes leave of other hosts.
    atexit._run_exitfuncs()
    sys.exit(code)
