"""How far a count is: a bar on a terminal that draws, else a line now and then, on stderr."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from replay_jax.sweep.drive.durations import duration

T = TypeVar("T")
# Seconds before the first line, and between lines.
_FIRST_SECONDS, _LINE_SECONDS = 2.0, 10.0


def counted(items: Sequence[T], what: str, *, console: Console | None = None) -> Iterator[T]:
    """The items one by one, with how many are done and the time left.

    Args:
        items: what takes its time.
        what: in words, such as "runs checked".
        console: for what is said; stderr where there is none.
    """
    console = Console(stderr=True) if console is None else console
    if console.is_terminal and not console.is_dumb_terminal:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            yield from bars.track(items)
        return
    began = time.monotonic()
    due = began + _FIRST_SECONDS
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now >= due:
            left = duration((now - began) * (len(items) / done - 1))
            line = f"{done:,} of {len(items):,} {what}, {left} left"
            console.print(line, highlight=False, markup=False)
            due = now + _LINE_SECONDS
        yield item
