"""Which task is next: pure bookkeeping between a plan's tasks and whatever carries them out."""

from collections.abc import Mapping, Sequence

from replay_jax.sweep.work import Task, states_in_use


class Scheduler:
    """Tasks by edge: ready when their parent is done, depth first; failures spare the siblings."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = {task.edge: task for task in tasks}
        self._waiting = list(self._tasks)
        self._running: set[int] = set()
        self._done: set[int] = set()
        self._failed: dict[int, str] = {}

    def take(self) -> Task | None:
        """The next task to begin, in depth-first order, or None while none is ready."""
        for edge in self._waiting:
            parent = self._tasks[edge].parent
            if parent is None or parent in self._done:
                self._waiting.remove(edge)
                self._running.add(edge)
                return self._tasks[edge]
        return None

    def put_back(self, edge: int) -> None:
        """A running task has ended early and waits again, before all others."""
        self._running.remove(edge)
        self._waiting.insert(0, edge)

    def finish(self, edge: int) -> Task:
        """A running task is done."""
        self._running.remove(edge)
        self._done.add(edge)
        return self._tasks[edge]

    def fail(self, edge: int, reason: str) -> list[Task]:
        """A running task cannot be done; returns it and all tasks that needed its end state."""
        self._running.remove(edge)
        lost = {edge}
        # Children stand behind their parents.
        for other in self._waiting:
            if self._tasks[other].parent in lost:
                lost.add(other)
        self._waiting = [other for other in self._waiting if other not in lost]
        self._failed.update(dict.fromkeys(lost, reason))
        return [self._tasks[other] for other in sorted(lost)]

    @property
    def running(self) -> frozenset[int]:
        """Edges that are being trained."""
        return frozenset(self._running)

    @property
    def waiting(self) -> int:
        """Number of tasks that have not begun."""
        return len(self._waiting)

    @property
    def failed(self) -> Mapping[int, str]:
        """Why edges failed, those below a failed one included."""
        return dict(self._failed)

    def is_over(self) -> bool:
        """Whether nothing runs and nothing can begin."""
        return not self._running and not self._waiting

    def states_needed(self) -> set[str]:
        """Digests of the states that unfinished tasks begin from, failed ones included."""
        return states_in_use(list(self._tasks.values()), finished=self._done)
