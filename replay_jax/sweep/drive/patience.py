"""A command that takes its time says on stderr what it does, how far it is and how long it takes.

Lines, as they suit a terminal, a log and a pipe alike; what takes two seconds at most says nothing.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

from replay_jax.progress import Stage, under_way
from replay_jax.sweep.drive.durations import duration

# Seconds before a stage is told, and between lines.
_FIRST_SECONDS, _LINE_SECONDS = 2.0, 10.0
_LOOK_SECONDS = 0.25


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Tell what is under way for as long as it is open."""
    over = threading.Event()
    teller = Teller()

    def watch() -> None:
        while not over.wait(_LOOK_SECONDS):
            teller.look(time.monotonic(), under_way(), _say)

    threading.Thread(target=watch, daemon=True, name="patience").start()
    try:
        yield
    finally:
        over.set()


class Teller:
    """Which stages are told when: each after two seconds, then every ten."""

    def __init__(self) -> None:
        self._told: Stage | None = None
        self._next = 0.0

    def look(self, now: float, stage: Stage | None, say: Callable[[str], None]) -> None:
        """Say how far a stage is, if it is time."""
        if stage is None or now - stage.began < _FIRST_SECONDS:
            return
        if stage is not self._told or now >= self._next:
            # A loop of short stages is one that takes its time.
            if self._told is None or stage.what != self._told.what or now >= self._next:
                say(how_far(stage, now))
                self._next = now + _LINE_SECONDS
            self._told = stage


def how_far(stage: Stage, now: float) -> str:
    """A stage in one line."""
    left = stage.seconds_left(now)
    if left is None:
        return f"{stage.what}, {duration(now - stage.began)} so far"
    return f"{stage.what}: {stage.done / stage.total:.0%}, {duration(left)} left"


def _say(line: str) -> None:
    # Nobody may be there to read it.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
