"""Train several edges of equal shape in one process, as lanes of one population.

Every edge keeps its own course: what it counts, measures and saves, and the facts it leaves, are
those of an edge trained alone, up to rounding. Edges may begin at different steps and be of
different length; a lane that is free takes the next one. Edges of another shape wait until all
lanes are free.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from replay_jax.data.reading.pipeline import Batch
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.edge import first_state, kept_end
from replay_jax.sweep.train.job import EdgeJob, resume_job, update_shape
from replay_jax.sweep.train.lane import Lane
from replay_jax.sweep.train.lane_averages import LaneAverages
from replay_jax.sweep.train.measuring import Measuring
from replay_jax.sweep.train.messages import Advanced, Ended, Failed
from replay_jax.sweep.train.outcome import failure
from replay_jax.sweep.train.programs import ProgramCache
from replay_jax.sweep.train.shared_time import SharedTime
from replay_jax.sweep.train.surroundings import Surroundings
from replay_jax.training.averaging import judged_params
from replay_jax.training.config import Profile, StepShape
from replay_jax.training.optimizer import Hyper
from replay_jax.training.population import Population
from replay_jax.training.step import StepMetrics, TrainState

Tell = Callable[[Advanced | Ended | Failed], None]


@dataclasses.dataclass(frozen=True)
class _Launched:
    """One update of all lanes whose metrics were not read: who took part, with which batch."""

    metrics: StepMetrics
    parts: tuple[tuple[Lane, int, Batch], ...]


class PopulationTrainer:
    """Trains up to `lanes` jobs side by side: `admit` them, and call `advance` until idle.

    The end states of the last jobs stay in memory, because others begin from them.

    Args:
        store: the working directory.
        programs: what this process has compiled.
        lanes: size of the population.
        tell: is given the progress and the end of every job.
        should_stop: asked before every update; after a yes all states are saved where they are.
    """

    def __init__(
        self,
        store: WorkStore,
        programs: ProgramCache,
        lanes: int,
        *,
        tell: Tell,
        should_stop: Callable[[], bool],
    ) -> None:
        self._store, self._programs = store, programs
        self._tell, self._should_stop = tell, should_stop
        self._measuring = Measuring(store, programs)
        self._surroundings = Surroundings(store)
        self._waiting: list[tuple[int, EdgeJob, Profile | None]] = []
        self._lanes: list[Lane | None] = [None] * lanes
        self._time = SharedTime(lanes)
        self._shape: StepShape | None = None
        self._population: Population | None = None
        self._states: TrainState | None = None
        self._averages: LaneAverages | None = None
        self._hyper: Hyper | None = None
        self._flight: list[_Launched] = []
        self._ended: dict[str, TrainState] = {}

    def admit(self, edge: int, job: EdgeJob, profile: Profile | None) -> None:
        """Take a job in; it begins when a lane is free."""
        self._waiting.append((edge, job, profile))

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self._busy

    @property
    def _busy(self) -> list[Lane]:
        return [lane for lane in self._lanes if lane is not None]

    def advance(self) -> None:
        """Begin what can begin, and make one update of every lane."""
        if self._should_stop():
            self._pause()
            return
        self._fill()
        if not self._busy:
            return
        try:
            self._launch(self._busy)
            self._fetch()
            self._land(leave=1)
            if any(lane.at_point for lane in self._busy):
                self._land(leave=0)
                self._look()
        except Exception as error:
            # The program itself failed, for all of its lanes: out of memory, as a rule.
            self._fail_all(error)

    # Jobs into lanes and out of them.

    def _fill(self) -> None:
        for request in list(self._waiting):
            free = next((i for i, lane in enumerate(self._lanes) if lane is None), None)
            shape = update_shape(request[1])
            if free is None:
                return
            if shape == self._shape or not self._busy:
                self._waiting.remove(request)
                self._begin(free, shape, *request)

    def _begin(
        self, index: int, shape: StepShape, edge: int, job: EdgeJob, profile: Profile | None
    ) -> None:
        job = resume_job(job, self._store)
        lane = self._lanes[index] = Lane(index, edge, job, self._time)
        with self._spared(lane), self._time.only(index):
            population = self._prepare(shape, lane)
            place = (self._store, self._programs, population.solo, lane.clock)
            kept = kept_end(job, *place)
            state = self._ended.get(job.start.digest) if kept is None else None
            if kept is None and state is None:
                state = first_state(job, *place)
            lane.begin(
                self._store,
                self._measuring,
                population,
                kept if state is None else judged_params(state, shape.model),
                on_progress=lambda progress: self._tell(Advanced(edge, progress)),
                environment=self._surroundings.enter(job),
                profile=profile,
            )
            if lane.at_end:
                if state is not None:
                    lane.course.keep_end(state)
                self._end(lane, state)
                return
            assert self._states is not None and state is not None and self._averages
            plain = self._averages.insert(state, index)
            self._states = population.insert(self._states, plain, index)
            self._hyper = None

    def _prepare(self, shape: StepShape, lane: Lane) -> Population:
        """The population of a shape; another one's lanes are free by then."""
        if self._population is None or shape != self._shape:
            self._drop_population()
            programs, count = self._programs, len(self._lanes)
            self._population = programs.population(shape, count, clock=lane.clock)
            self._shape, self._states = shape, self._population.empty()
            self._averages = LaneAverages(self._population)
        return self._population

    def _drop_population(self) -> None:
        self._shape = self._population = self._states = self._hyper = self._averages = None
        self._flight = []
        self._ended = {}

    def _end(self, lane: Lane, state: TrainState | None) -> None:
        """A job is done; others may go on from its state, None where it was only measured."""
        stop = lane.job.stop
        if state is not None and (lane.job.save or lane.job.start == stop):
            self._ended[stop.digest] = state
            while len(self._ended) > len(self._lanes):
                del self._ended[next(iter(self._ended))]
        self._release(lane)
        self._tell(Ended(lane.edge, stop.step, True))

    def _release(self, lane: Lane) -> None:
        lane.close()
        self._lanes[lane.index] = None
        self._empty(lane)

    def _empty(self, lane: Lane) -> None:
        """A free lane's parameters are zeros, so that nothing in it can become infinite."""
        if self._states is not None and self._population is not None:
            self._states = self._population.clear(self._states, lane.index)
        self._hyper = None

    @contextlib.contextmanager
    def _spared(self, lane: Lane) -> Iterator[None]:
        """An error inside ends this lane's job and no other."""
        try:
            yield
        except Exception as error:
            self._fail(lane, error)

    def _fail(self, lane: Lane, error: Exception) -> None:
        lane.close(type(error), error, error.__traceback__)
        self._lanes[lane.index] = None
        self._tell(failure(lane.edge, error, self._surroundings.last))
        self._empty(lane)

    def _fail_all(self, error: Exception) -> None:
        self._drop_population()
        for lane in self._busy:
            self._fail(lane, error)

    def _pause(self) -> None:
        """Save where every lane stands, and give all jobs back."""
        for edge, job, _ in self._waiting:
            self._tell(Ended(edge, job.start.step, False))
        self._waiting = []
        try:
            self._land(leave=0)
        except Exception as error:
            self._fail_all(error)
        for lane in self._busy:
            with self._spared(lane), self._time.only(lane.index):
                lane.course.pause(lane.step, self._take(lane))
                self._release(lane)
                self._tell(Ended(lane.edge, lane.step, False))

    # One update of every lane.

    def _launch(self, busy: Sequence[Lane]) -> None:
        population, states = self._population, self._states
        assert population is not None and states is not None
        self._trace(busy, states)
        lanes = self._lanes
        resets = np.array([lane is not None and lane.resets for lane in lanes])
        if resets.any():
            states = population.reset(states, resets)
        if self._hyper is None:
            self._hyper = population.place_hyper([lane.hyper() if lane else None for lane in lanes])
        rates = population.place_rates([lane.rate if lane else None for lane in lanes])
        hyper = {**self._hyper, "learning_rate": rates}
        batch = population.place_batches([lane.batch if lane else None for lane in lanes])
        # Anything that is still on the host here would be copied again at every step.
        with jax.transfer_guard("disallow"):
            self._states, metrics = population.step(states, batch, hyper)
        parts = [(lane, lane.step, lane.batch) for lane in busy if lane.batch is not None]
        self._flight.append(_Launched(metrics, tuple(parts)))
        for lane in busy:
            lane.step += 1
        assert self._averages is not None
        self._averages.add(self._states, [lane.average_weight if lane else 0.0 for lane in lanes])

    def _trace(self, busy: Sequence[Lane], states: TrainState) -> None:
        """The profiler follows one lane at a time."""
        running = [lane for lane in busy if lane.tracer.running]
        for lane in running or busy:
            lane.tracer.before(lane.step, states)
            if lane.tracer.running:
                return

    def _fetch(self) -> None:
        """Get every lane's next batch while the devices work on the last one."""
        before = [(lane, lane.clock.seconds["train"]) for lane in self._busy]
        for lane in self._busy:
            with self._spared(lane):
                lane.fetch()
        last = self._flight[-1].metrics.gradient_norm
        if last.is_ready():  # type: ignore[attr-defined]
            # The devices ran out of work meanwhile.
            for lane, train in before:
                waited = lane.clock.seconds["train"] - train
                lane.clock.move(waited, source="train", to="data_wait")

    def _land(self, *, leave: int) -> None:
        """Read the metrics of all updates in flight but the last `leave`."""
        while len(self._flight) > leave:
            launched = self._flight.pop(0)
            metrics: StepMetrics = jax.device_get(launched.metrics)
            for lane, step, batch in launched.parts:
                if not lane.over:
                    with self._spared(lane):
                        lane.land(step, _of_lane(metrics, lane.index), batch)

    def _look(self) -> None:
        """Let every lane that is at a point measure, save or end."""
        for lane in self._busy:
            if lane.at_point:
                with self._spared(lane), self._time.only(lane.index):
                    state = self._take(lane)
                    lane.look(state)
                    if lane.at_end:
                        self._end(lane, state)

    def _take(self, lane: Lane) -> TrainState:
        assert self._population and self._states is not None and self._averages
        state = self._population.take(self._states, lane.index)
        return state if not lane.average_weight else self._averages.beside(state, lane.index)


def _of_lane(metrics: StepMetrics, index: int) -> StepMetrics:
    return jax.tree.map(lambda leaf: leaf[index], metrics)
