"""What is under way and how far: said by whoever works, shown by whoever listens.

The rooms where work takes its time know no console. They open a stage; the command line looks at
them now and then (`sweep/drive/patience.py`).
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class Stage:
    """Work under way: `done` of `total`, in any unit; total 0 where nobody knows how much it is.

    began: by the monotonic clock, seconds. is_first: over as soon as another begins.
    """

    what: str
    total: float = 0.0
    done: float = 0.0
    began: float = field(default_factory=time.monotonic)
    is_first: bool = False

    def seconds_left(self, now: float) -> float | None:
        """At the speed so far; None before anything is done, or where the total is unknown."""
        if not 0 < self.done <= self.total:
            return None
        return (now - self.began) * (self.total / self.done - 1)


_under_way: list[Stage] = []


def under_way() -> Stage | None:
    """What is under way in this process: of stages within each other, the outermost that knows how
    much is left, or else the innermost.
    """  # fmt: skip
    stages = list(_under_way)
    known = (each for each in stages if each.seconds_left(each.began) is not None)
    return next(known, stages[-1] if stages else None)


@contextlib.contextmanager
def stage(what: str, total: float = 0.0) -> Iterator[Callable[[float], None]]:
    """Work that may take its time; what it gives is told how much more of `total` is done."""
    own = Stage(what, total)

    def advance(more: float) -> None:
        own.done += more

    with _open(own):
        yield advance


@contextlib.contextmanager
def until_another(what: str) -> Iterator[None]:
    """Work that is not said more of before the first stage in it begins."""
    with _open(Stage(what, is_first=True)):
        yield


@contextlib.contextmanager
def _open(own: Stage) -> Iterator[None]:
    _under_way[:] = [one for one in _under_way if not one.is_first] + [own]
    try:
        yield
    finally:
        _under_way[:] = [one for one in _under_way if one is not own]


def step_by_step(items: Sequence[T], what: str) -> Iterator[T]:
    """The items one by one, with how many of them are done."""
    with stage(what, len(items)) as advance:
        for item in items:
            yield item
            advance(1)
