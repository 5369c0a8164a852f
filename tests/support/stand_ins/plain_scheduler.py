"""The order of tasks by its definition, looking at all of them each time."""

import time
from collections.abc import Sequence

from replay_jax.sweep.plan.work import Task


class Plain:
    """Tasks by edge: ready when their parent is done; failures spare the siblings.

    Args:
        tasks: of a plan, parents before their children.
        workers: how many tasks are trained side by side.
    """

    def __init__(self, tasks: Sequence[Task], *, workers: int) -> None:
        self._tasks = {task.edge: task for task in tasks}
        self._workers = workers
        self._waiting = list(self._tasks)
        self._running: set[int] = set()
        self._done: set[int] = set()
        self._failed: dict[int, str] = {}
        self._resting: dict[int, float] = {}

    def take(self) -> Task | None:
        """The next task to begin, or None while none is ready."""
        ready = [edge for edge in self._waiting if self._is_ready(edge)]
        if not ready:
            return None
        edge = self._urgent(ready) if 1 < self._workers and 1 < len(ready) else ready[0]
        self._waiting.remove(edge)
        self._running.add(edge)
        return self._tasks[edge]

    def put_back(self, edge: int) -> None:
        """A running task has ended early and waits again, before all others."""
        self._running.remove(edge)
        self._waiting.insert(0, edge)

    def rest(self, edge: int, *, until: float) -> None:
        """A running task waits again, not to be taken before a time (`time.monotonic`)."""
        self._resting[edge] = until
        self.put_back(edge)

    def finish(self, edge: int) -> Task:
        """A running task is done."""
        self._running.remove(edge)
        self._done.add(edge)
        return self._tasks[edge]

    def fail(self, edge: int, reason: str) -> list[Task]:
        """A task cannot be done; returns it and all tasks that needed its end state."""
        self._running.discard(edge)
        lost = {edge}
        # Children stand behind their parents.
        for other in self._waiting:
            if self._tasks[other].parent in lost:
                lost.add(other)
        self._waiting = [other for other in self._waiting if other not in lost]
        self._failed.update(dict.fromkeys(lost, reason))
        return [self._tasks[other] for other in sorted(lost)]

    def _is_ready(self, edge: int) -> bool:
        parent = self._tasks[edge].parent
        if edge in self._resting and time.monotonic() < self._resting[edge]:
            return False
        return parent is None or parent in self._done

    def _urgent(self, ready: Sequence[int]) -> int:
        """The ready task that most others wait for, if it is time for it, else the first.

        When all that are left are ready, the longest.
        """
        waiting = set(self._waiting)
        if len(ready) == len(waiting):
            # Only ends are left: with the longest first, the last of them end together.
            return max(ready, key=lambda edge: (self._tasks[edge].steps, -edge))
        below = dict.fromkeys(waiting, 0)
        # From the leaves up, as children stand behind their parents.
        for edge in sorted(waiting, reverse=True):
            parent = self._tasks[edge].parent
            if parent in waiting:
                below[parent] += below[edge] + self._tasks[edge].steps
        most = max(ready, key=lambda edge: (below[edge], -edge))
        own = self._tasks[most].steps
        others = sum(self._tasks[edge].steps for edge in waiting) - below[most] - own
        # The last of the others may be begun too late to be of use, so the longest is left out.
        longest = max(self._tasks[edge].steps for edge in ready if edge != most)
        return most if others - longest <= (self._workers - 1) * own else ready[0]
