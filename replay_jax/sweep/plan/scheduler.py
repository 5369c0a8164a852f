"""Which task is next: pure bookkeeping over a plan's tasks.

Depth first, so that few states are kept at once. With several workers that alone would end badly:
the shared prefix of the last seed would begin when nothing else is left, and one worker would
train it while the others wait. So a task that others wait for goes first as soon as what does not
depend on it would no longer keep the other workers busy meanwhile; and when nothing waits any
more, the longest goes first.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from replay_jax.sweep.plan.work import Task


class Scheduler:
    """Tasks by edge: ready when their parent is done; failures spare the siblings.

    Every call costs at most the logarithm of the number of tasks, for each task that it moves.

    Args:
        tasks: of a plan, parents before their children.
        workers: how many tasks are trained side by side.
    """

    def __init__(self, tasks: Sequence[Task], *, workers: int) -> None:
        self._tasks = {task.edge: task for task in tasks}
        self._workers = workers
        self._place = {task.edge: number for number, task in enumerate(tasks)}
        self._front = 0
        self._waiting = set(self._tasks)
        self._steps_waiting = sum(task.steps for task in tasks)
        self._running: set[int] = set()
        self._done: set[int] = set()
        self._failed: dict[int, str] = {}
        self._resting: dict[int, float] = {}
        self._users = Counter(task.start.digest for task in tasks if task.start.step)
        self._children: dict[int, list[int]] = {task.edge: [] for task in tasks}
        # Steps of all that waits below an edge; from the leaves up, as children stand behind.
        self._below = dict.fromkeys(self._tasks, 0)
        for task in reversed(tasks):
            if task.parent is not None:
                self._children[task.parent].append(task.edge)
                self._below[task.parent] += self._below[task.edge] + task.steps
        self._ready: set[int] = set()
        self._first, self._heaviest, self._longest = _Heap(), _Heap(), _Heap()
        for task in tasks:
            if task.parent is None:
                self._make_ready(task.edge)

    def take(self) -> Task | None:
        """The next task to begin, or None while none is ready."""
        for edge in [edge for edge, until in self._resting.items() if until <= time.monotonic()]:
            del self._resting[edge]
            self._make_ready(edge)
        if not self._ready:
            return None
        several = 1 < self._workers and 1 < len(self._ready)
        edge = self._urgent() if several else self._top(self._first, self._place_of)
        self._ready.remove(edge)
        self._leave_waiting(edge)
        self._running.add(edge)
        return self._tasks[edge]

    def put_back(self, edge: int) -> None:
        """A running task has ended early and waits again, before all others."""
        self._wait_again(edge)
        self._make_ready(edge)

    def rest(self, edge: int, *, until: float) -> None:
        """A running task waits again, not to be taken before a time (`time.monotonic`)."""
        self._wait_again(edge)
        self._resting[edge] = until

    def finish(self, edge: int) -> Task:
        """A running task is done."""
        self._running.remove(edge)
        self._done.add(edge)
        self._users[self._tasks[edge].start.digest] -= 1
        for child in self._children[edge]:
            if child in self._waiting:
                self._make_ready(child)
        return self._tasks[edge]

    def fail(self, edge: int, reason: str) -> list[Task]:
        """A task cannot be done; returns it and all tasks that needed its end state."""
        self._running.discard(edge)
        if edge in self._waiting:
            self._lighten(self._tasks[edge].parent, self._below[edge] + self._tasks[edge].steps)
        lost, found = [edge], 0
        while found < len(lost):
            lost += [child for child in self._children[lost[found]] if child in self._waiting]
            found += 1
        for other in lost:
            self._ready.discard(other)
            self._resting.pop(other, None)
            self._leave_waiting(other)
        self._failed.update(dict.fromkeys(lost, reason))
        return [self._tasks[other] for other in sorted(lost)]

    def _lighten(self, edge: int | None, steps: int) -> None:
        """So many steps less wait below an edge, and below all that it is below."""
        while edge is not None:
            self._below[edge] -= steps
            if edge in self._ready:
                self._heaviest.push(-self._below[edge], edge)
            edge = self._tasks[edge].parent

    def _wait_again(self, edge: int) -> None:
        self._running.remove(edge)
        self._waiting.add(edge)
        self._steps_waiting += self._tasks[edge].steps
        self._front -= 1
        self._place[edge] = self._front

    def _leave_waiting(self, edge: int) -> None:
        if edge in self._waiting:
            self._waiting.remove(edge)
            self._steps_waiting -= self._tasks[edge].steps

    def _make_ready(self, edge: int) -> None:
        self._ready.add(edge)
        self._first.push(self._place_of(edge), edge)
        self._heaviest.push(self._weight_of(edge), edge)
        self._longest.push(self._length_of(edge), edge)

    def _place_of(self, edge: int) -> int:
        return self._place[edge]

    def _weight_of(self, edge: int) -> int:
        return -self._below[edge]

    def _length_of(self, edge: int) -> int:
        return -self._tasks[edge].steps

    def _top(self, heap: "_Heap", value_of: Callable[[int], int], *, beside: int = -1) -> int:
        """The ready edge of the smallest value in a heap, other than `beside`."""
        return heap.top(lambda value, edge: edge in self._ready and value == value_of(edge), beside)

    def _urgent(self) -> int:
        """The ready task that most others wait for, if it is time for it, else the first.

        When all that are left are ready, the longest.
        """
        if len(self._ready) == len(self._waiting):
            # Only ends are left: with the longest first, the last of them end together.
            return self._top(self._longest, self._length_of)
        most = self._top(self._heaviest, self._weight_of)
        own = self._tasks[most].steps
        others = self._steps_waiting - self._below[most] - own
        # The last of the others may be begun too late to be of use, so the longest is left out.
        longest = self._tasks[self._top(self._longest, self._length_of, beside=most)].steps
        is_time = others - longest <= (self._workers - 1) * own
        return most if is_time else self._top(self._first, self._place_of)

    @property
    def running(self) -> frozenset[int]:
        """Edges that are being trained."""
        return frozenset(self._running)

    @property
    def waiting(self) -> int:
        """Number of tasks that have not begun."""
        return len(self._waiting)

    @property
    def tasks(self) -> Mapping[int, Task]:
        """All tasks, by edge."""
        return self._tasks

    def has_failed(self, edge: int) -> bool:
        """Whether a task, or one that it needed, cannot be done."""
        return edge in self._failed

    def starts_from(self, edge: int, digest: str) -> bool:
        """Whether a state is the one that a task begins from, not one on its way."""
        return self._tasks[edge].start.digest == digest

    @property
    def failed(self) -> Mapping[int, str]:
        """Why edges failed, those below a failed one included."""
        return dict(self._failed)

    def is_over(self) -> bool:
        """Whether nothing runs and nothing can begin."""
        return not self._running and not self._waiting

    def needs(self, digest: str) -> bool:
        """Whether an unfinished task, a failed one included, begins from a state."""
        return self._users[digest] > 0


class _Heap:
    """Edges by a value, the smallest first; those that no longer count go when they are met."""

    def __init__(self) -> None:
        self._items: list[tuple[int, int]] = []

    def push(self, value: int, edge: int) -> None:
        heapq.heappush(self._items, (value, edge))

    def top(self, counts: Callable[[int, int], bool], beside: int) -> int:
        """The first edge that counts and is not `beside`."""
        spared = None
        while not counts(*self._items[0]) or self._items[0][1] == beside:
            item = heapq.heappop(self._items)
            spared = item if counts(*item) else spared
        edge = self._items[0][1]
        if spared is not None:
            heapq.heappush(self._items, spared)
        return edge
