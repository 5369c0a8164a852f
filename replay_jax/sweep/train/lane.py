"""One place of a population and the job in it: its course, its batches, and how far it is."""

import contextlib
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from replay_jax.data.reading.pipeline import Batch
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.course import Course
from replay_jax.sweep.train.edge import edge_batches
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.measuring import Measuring
from replay_jax.sweep.train.shared_time import SharedTime
from replay_jax.training.config import Profile
from replay_jax.training.loop import Tracer, step_record
from replay_jax.training.metrics import Progress, TimeSplit
from replay_jax.training.optimizer import Hyper, hyperparameters
from replay_jax.training.population import Population
from replay_jax.training.saving.checkpoint import Checkpointer
from replay_jax.training.span import Span
from replay_jax.training.step import StepMetrics, TrainState


class Lane:
    """A job in its place, from when it begins to when it ends or fails.

    Attributes:
        index: the place.
        edge: the coordinator's number of the job.
        step: updates that were started.
        batch: the batch of the next update, None at the end.
        over: whether it has ended or failed; what is still in flight for it is not looked at.
    """

    def __init__(self, index: int, edge: int, job: EdgeJob, time: SharedTime) -> None:
        self.index, self.edge, self.job = index, edge, job
        self.step, self.over = job.start.step, False
        self.batch: Batch | None = None
        self.clock = TimeSplit(time.clock(index))
        self._time = time
        self._open = contextlib.ExitStack()
        time.join(index)
        self._open.callback(time.leave, index)
        self._open.enter_context(self.clock.measure("train"))

    def begin(
        self,
        store: WorkStore,
        measuring: Measuring,
        population: Population,
        params: Any,
        *,
        on_progress: Callable[[Progress], None],
        environment: str,
        profile: Profile | None,
    ) -> None:
        """Measure what is due at the first state, by its parameters, and get the first batch."""
        checkpointer = self._open.enter_context(Checkpointer())
        self.course = Course(
            self.job,
            store,
            measuring,
            population.solo,
            self.clock,
            checkpointer,
            on_progress,
            environment,
            lambda: self._time.sharing,
        )
        self.course.measure(self.step, params)
        if self.at_end:
            return
        self._open.enter_context(self.course)
        self.tracer = self._open.enter_context(Tracer(profile))
        self.span: Span = self.course.span()
        self._batches: Iterator[Batch] = self.course.counting(edge_batches(self.job))
        self.fetch()

    @property
    def at_end(self) -> bool:
        """Whether the last update was started."""
        return self.step == self.job.stop.step

    @property
    def at_point(self) -> bool:
        """Whether the state must be looked at before the next update."""
        return self.at_end or self.step in self.span.points

    @property
    def resets(self) -> bool:
        """Whether the optimizer is reset before the next update."""
        return bool(self.span.resets[self.step])

    @property
    def rate(self) -> float:
        """Learning rate of the next update."""
        return float(self.span.learning_rates[self.step])

    @property
    def average_weight(self) -> float:
        """What the last update's parameters weigh in their average; 0 where there is none."""
        averaged = self.step - self.job.average_start
        return 1 / averaged if averaged > 0 else 0.0

    def hyper(self) -> Hyper:
        """Hyperparameters; the learning rate is that of the next update."""
        return hyperparameters(self.job.config.optimizer, self.rate)

    def fetch(self) -> None:
        """Get the batch of the next update, if there is one."""
        self.batch = None if self.at_end else next(self._batches)

    def land(self, index: int, metrics: StepMetrics, batch: Batch) -> None:
        """Take in what update `index` gave. Raises NonFiniteLoss."""
        self.course.on_step(step_record(index, metrics, batch, self.span))

    def look(self, state: TrainState) -> None:
        """Measure, save and finish as is due at a point."""
        if self.step in self.span.points:
            self.course.on_point(self.step, state)
        if self.at_end:
            self.course.finish(state)

    def close(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """Free what the job held; given an error, its place is what matters, not a lost save."""
        self.over = True
        self._open.__exit__(kind, error, trace)
