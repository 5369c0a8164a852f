"""How far a sweep is: pure bookkeeping over messages, for the live view and for `status`."""

import dataclasses
import os
import socket
import time
from typing import Any

from replay_jax.sweep.plan.plan import Plan
from replay_jax.training.metrics import Progress

# `status` from another shell is at most this old.
_FACT_SECONDS = 1.0


@dataclasses.dataclass
class EdgeProgress:
    """An edge that is being trained: where, how far, and the last numbers."""

    where: str
    step: int
    last: Progress | None = None


class ProgressBoard:
    """What is under way, what is done, and how long the rest will take."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._fact_at = 0.0
        self._remaining = {task.edge: task for task in plan.tasks}
        # Edges without a task were done before; the others have come as far as they are resumed.
        self._steps = {number: edge.stop.step for number, edge in enumerate(plan.edges)}
        self._steps.update({task.edge: task.start.step for task in plan.tasks})
        self._begin_steps = dict(self._steps)
        self.running: dict[int, EdgeProgress] = {}

    def start(self, edge: int, where: str) -> None:
        """An edge is being worked on."""
        self.running[edge] = EdgeProgress(where, self._steps[edge])

    def advance(self, edge: int, progress: Progress) -> bool:
        """An edge has come to a step; returns whether it never was that far before."""
        if edge in self.running:
            self.running[edge].step, self.running[edge].last = progress.step, progress
        further = progress.step > self._steps[edge]
        self._steps[edge] = max(self._steps[edge], progress.step)
        return further

    def end(self, edge: int, step: int | None) -> None:
        """An edge is no longer worked on; it has come to `step`, or failed."""
        self.running.pop(edge, None)
        if step is not None:
            self._steps[edge] = step

    def shares(self) -> dict[int, float]:
        """Share done of every edge that has begun."""
        edges = self._plan.edges
        return {
            number: (step - edges[number].start.step) / edges[number].steps
            for number, step in self._steps.items()
            if step > edges[number].start.step
        }

    @property
    def steps_done(self) -> int:
        """Updates made since the coordinator began."""
        return sum(self._steps[edge] - self._begin_steps[edge] for edge in self._remaining)

    @property
    def steps_total(self) -> int:
        """Updates that were left when the coordinator began."""
        return self._plan.steps_remaining

    @property
    def tokens_per_second(self) -> float:
        """Labels trained on per second by all edges under way."""
        return sum(e.last.tokens_per_second for e in self.running.values() if e.last is not None)

    def seconds_left(self) -> float | None:
        """Time that the rest takes at the mean speed so far; None before the first update.

        Work is counted in model FLOPs, because runs may differ in size.
        """
        done = total = 0.0
        for edge, task in self._remaining.items():
            owner, first = self._plan.runs[task.runs[0]], task.start.step
            per_step = owner.flops_between(first, first + 1)  # all of an edge are of one size
            done += per_step * (self._steps[edge] - self._begin_steps[edge])
            total += per_step * task.steps
        elapsed = time.monotonic() - self._began
        return None if not done else elapsed * (total - done) / done

    def due_fact(self) -> dict[str, Any] | None:
        """The state of affairs as plain values, if the last one is old enough."""
        if time.monotonic() - self._fact_at < _FACT_SECONDS:
            return None
        self._fact_at = time.monotonic()
        return self.fact(over=False)

    def fact(self, *, over: bool) -> dict[str, Any]:
        """The state of affairs as plain values; `over` says that nothing runs any more."""
        running = {} if over else self.running
        return {
            "time": time.time(),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "steps_done": self.steps_done,
            "steps_total": self.steps_total,
            "seconds_left": None if over else self.seconds_left(),
            "edges": [self._edge_fact(number, edge) for number, edge in sorted(running.items())],
        }

    def _edge_fact(self, number: int, edge: EdgeProgress) -> dict[str, Any]:
        planned = self._plan.edges[number]
        return {
            "stop": planned.stop.digest,
            "start_step": planned.start.step,
            "stop_step": planned.stop.step,
            "step": edge.step,
            "where": edge.where,
            "loss": None if edge.last is None else edge.last.loss,
            "tokens_per_second": None if edge.last is None else edge.last.tokens_per_second,
        }
