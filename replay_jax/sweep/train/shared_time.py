"""Wall time divided among the jobs that share a process, so that every second is counted once."""

import contextlib
import time
from collections.abc import Callable, Iterator


class SharedTime:
    """Seconds per lane: the wall time divided equally by those that take part, or one lane's alone.

    A lane's clock is `TimeSplit(shared.clock(lane))`; the sum over all lanes is the wall time
    during which any took part.
    """

    def __init__(self, lanes: int, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._since = now()
        self._seconds = [0.0] * lanes
        self._sharing: set[int] = set()
        self._alone: int | None = None

    @property
    def sharing(self) -> int:
        """How many lanes take part."""
        return len(self._sharing)

    def clock(self, lane: int) -> Callable[[], float]:
        """The seconds that a lane has had, as a function of now."""

        def seconds() -> float:
            self._settle()
            return self._seconds[lane]

        return seconds

    def join(self, lane: int) -> None:
        """A lane takes part from now on."""
        self._settle()
        self._sharing.add(lane)

    def leave(self, lane: int) -> None:
        """A lane takes part no longer."""
        self._settle()
        self._sharing.discard(lane)

    @contextlib.contextmanager
    def only(self, lane: int) -> Iterator[None]:
        """What is done inside is for one lane, while the others wait."""
        self._settle()
        self._alone = lane
        try:
            yield
        finally:
            self._settle()
            self._alone = None

    def _settle(self) -> None:
        now = self._now()
        spent, self._since = now - self._since, now
        if self._alone is not None:
            self._seconds[self._alone] += spent
            return
        for lane in self._sharing:
            self._seconds[lane] += spent / len(self._sharing)
