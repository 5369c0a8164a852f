"""Stopping several processes before the same update.

Processes that train together must make the same updates, or they wait for each other forever; but
each is a little ahead of or behind the others. So they count the updates that they begin. To stop,
the gate of each is closed and says how many that were; the largest number is made by all, and the
one after it by none.
"""

import threading


class StopGate:
    """Counts the updates of one process over all its jobs; asked by the thread that trains."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._begun = 0
        self._closed = False
        self._last: int | None = None

    def should_stop(self) -> bool:
        """Asked once before every update; waits while the gate is closed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            if self._last is not None and self._begun >= self._last:
                return True
            self._begun += 1
            return False

    def close(self) -> int:
        """Let no update begin until `open`; returns how many have begun."""
        with self._changed:
            self._closed = True
            return self._begun

    def open(self, last: int) -> None:
        """Go on until `last` updates have begun, and stop then."""
        with self._changed:
            self._closed, self._last = False, last
            self._changed.notify_all()
