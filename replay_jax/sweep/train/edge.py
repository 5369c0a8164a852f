"""Train one edge: from a saved or initial state to its end, measuring and saving on the way.

What is known is written in an order that an interruption at any instant leaves whole: a held-out
loss when it is measured, then what a span consumed, then the state at its end. A state counts only
together with the spans that lead to it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from replay_jax.data.reading.batch_rows import ALL_ROWS, BatchRows, row_numbers
from replay_jax.data.reading.pipeline import Batch, read_ahead, run_dataset
from replay_jax.hub.weights import load_params
from replay_jax.sweep.plan.objective import held_updates, loss_weights
from replay_jax.sweep.plan.programs import shape_of
from replay_jax.sweep.store.kinds import DamagedState
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.course import Course, on_first_host
from replay_jax.sweep.train.job import EdgeJob, resume_step, start_at, step_shape, update_shape
from replay_jax.sweep.train.measuring import Measuring
from replay_jax.sweep.train.programs import ProgramCache
from replay_jax.sweep.train.surroundings import Surroundings
from replay_jax.training.averaging import abstract_averaged, judged_params
from replay_jax.training.begin import given_part
from replay_jax.training.config import Profile
from replay_jax.training.gradient import DROPOUT_KEYS, dropout_keys
from replay_jax.training.loop import train_span
from replay_jax.training.mesh.sharding import mesh_host_rows
from replay_jax.training.metrics import Progress, TimeSplit
from replay_jax.training.saving.checkpoint import Checkpointer, restore_params, restore_state
from replay_jax.training.saving.saved import DamagedCheckpoint, is_complete
from replay_jax.training.span import Hooks, Programs
from replay_jax.training.step import StepProgram, TrainState, check_shape
from replay_jax.training.trainable import as_base, joined, of_training

# One thread reads ahead: a batch is gathered some hundred times faster than it is trained on.
_READ_THREADS = 1


@dataclasses.dataclass(frozen=True)
class EdgeEnd:
    """How far a job came: the number of completed updates, and whether that is its end."""

    step: int
    finished: bool


class EdgeTrainer:
    """Trains jobs one after another in this process, keeping programs and held-out sets.

    The last saved end state stays in memory, because the job that goes on from it is often next.
    """

    def __init__(self, store: WorkStore) -> None:
        self._store = store
        self._programs = ProgramCache()
        self._measuring = Measuring(store, self._programs)
        self._surroundings = Surroundings(store)
        self._last: tuple[str, TrainState] | None = None
        self._base: tuple[Any, Any] = (None, None)

    @property
    def environment(self) -> str:
        """Digest of what this process trained in last; "" before it came to that."""
        return self._surroundings.last

    def train(
        self,
        job: EdgeJob,
        *,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
        profile: Profile | None = None,
    ) -> EdgeEnd:
        """Do a job, or as much of it as there is time for.

        Args:
            job: what to do.
            on_progress: is told of the last steps, every `training.log_every`.
            should_stop: asked before every step, alike on all hosts; after a yes it saves and ends.
            profile: updates to trace.

        Raises:
            FloatingPointError: a loss that is not a number; names the step and its rows.
            UserError: a state cannot be saved or restored; a shape does not divide over the
                devices; the working directory is of another environment.
        """
        environment = self._surroundings.enter(job)
        job = self._resumed(job)
        clock = TimeSplit()
        average = job.config.training.average_last > 0
        mesh = self._programs.mesh(job.config.mesh, step_shape(job), average=average)
        _check_shapes(job, mesh)
        kept = kept_end(job, self._store, self._programs, mesh, clock)
        with Checkpointer() as saves:
            about = (mesh, clock, saves, on_progress, environment)
            course = Course(job, self._store, self._measuring, *about)
            if kept is not None:
                course.measure(job.stop.step, kept)
                return EdgeEnd(job.stop.step, True)
            state = self._begin(job, mesh, clock)
            course.measure(job.start.step, judged_params(state, job.config.model))
            if job.start == job.stop:
                course.keep_end(state)
                self._last = (job.stop.digest, state)
                return EdgeEnd(job.stop.step, True)
            programs = self._updates(job, mesh, clock)
            rows = mesh_host_rows(mesh, job.batch_size)
            with course:
                end = train_span(
                    state,
                    span=course.span(),
                    programs=programs,
                    batches=course.counting(edge_batches(job, rows)),
                    hooks=Hooks(course.on_step, course.on_point, lambda _: should_stop()),
                    clock=clock,
                    profile=profile,
                )
            if end.stopped:
                course.pause(end.step, end.state)
            else:
                course.finish(end.state)
        if job.save and not end.stopped:
            self._last = (job.stop.digest, end.state)
        return EdgeEnd(end.step, not end.stopped)

    def _resumed(self, job: EdgeJob) -> EdgeJob:
        # A shared file system may not show all hosts the same: the first one looks.
        step = resume_step(job, self._store) if jax.process_index() == 0 else 0
        return start_at(job, int(multihost_utils.broadcast_one_to_all(np.int64(step))))

    def _updates(self, job: EdgeJob, mesh: Mesh, clock: TimeSplit) -> Programs:
        """The programs of a job, those of updates with rows that are held to its base among them.

        All others are made by the program that every run has, whatever it holds rows to: so runs
        share them to the last bit.
        """
        shape, span = update_shape(job), range(job.start.step, job.stop.step)
        held = held_updates(job.config, job.schedule).intersection(span)
        plain = dataclasses.replace(shape, kl_sources=())
        if not held:
            self._base = (None, None)
            return self._programs.train(plain, mesh, clock=clock)
        step = self._beside_its_base(job, mesh, clock)
        if len(held) == len(span):
            return dataclasses.replace(self._programs.train(shape, mesh, clock=clock), step=step)
        programs = self._programs.train(plain, mesh, clock=clock)
        return dataclasses.replace(programs, kl_step=step, kl_updates=held)

    def _beside_its_base(self, job: EdgeJob, mesh: Mesh, clock: TimeSplit) -> StepProgram:
        """The step that holds rows to the model that a job's run started from, kept for others."""
        shape = update_shape(job)
        step, model = self._programs.train(shape, mesh, clock=clock).step, shape.model
        if not shape.carries_base:
            return step
        assert job.pretrained is not None
        key = (job.pretrained, model, mesh)
        if self._base[0] != key:
            self._base = (None, None)
            with clock.measure("save"):
                like = self._programs.abstract_state(model, mesh, shape.optimizer).params
                self._base = (key, load_params(job.pretrained, as_base(like, model), model))
        base = self._base[1]
        return lambda state, batch, hyper: step(state, batch, hyper, base)

    def _begin(self, job: EdgeJob, mesh: Mesh, clock: TimeSplit) -> TrainState:
        last, self._last = self._last, None
        if last is not None and last[0] == job.start.digest:
            return last[1]
        return first_state(job, self._store, self._programs, mesh, clock)


def first_state(
    job: EdgeJob, store: WorkStore, programs: ProgramCache, mesh: Mesh, clock: TimeSplit
) -> TrainState:
    """The state that a job begins from: of the seed or pre-trained at step 0, else read from disk.

    Raises:
        DamagedState: the saved state cannot be read.
        UserError: the pre-trained model cannot be read.
    """
    model, optimizer = job.config.model, job.config.optimizer.kind
    if job.start.step == 0 and job.pretrained is not None:
        begin = programs.begin(model, mesh, optimizer, clock=clock)
        with clock.measure("save"):
            like = programs.abstract_state(model, mesh, optimizer).params
            params = load_params(job.pretrained, given_part(like, model), model)
        begun: TrainState = begin(params, job.config.seed)
        return begun
    if job.start.step == 0:
        state: TrainState = programs.init(model, mesh, optimizer, clock=clock)(job.config.seed)
        return state
    with clock.measure("save"):
        like = programs.abstract_state(model, mesh, optimizer)
        if job.start.step > job.average_start:
            like = abstract_averaged(like, model)
        try:
            path = store.state_path(job.start.digest)
            restored, _ = restore_state(path, of_training(like, model))
        except DamagedCheckpoint as error:
            raise DamagedState(job.start.digest, str(error)) from error
        restored = restored.replace(params=_beside_base(job, restored.params, like.params))
    assert int(restored.step) == job.start.step
    return restored


def kept_end(
    job: EdgeJob, store: WorkStore, programs: ProgramCache, mesh: Mesh, clock: TimeSplit
) -> Any | None:
    """The parameters that a job has to measure, where they alone were kept; None for any other job.

    Raises:
        DamagedState: they cannot be read.
    """
    digest = job.stop.digest
    whole, alone = store.state_path(digest), store.end_path(digest)
    if job.start != job.stop or not on_first_host(
        lambda: is_complete(alone) and not is_complete(whole)
    ):
        return None
    with clock.measure("save"):
        try:
            config = job.config
            wanted = programs.abstract_state(config.model, mesh, config.optimizer.kind)
            saved = restore_params(alone, of_training(wanted, config.model).params)
        except DamagedCheckpoint as error:
            raise DamagedState(digest, str(error)) from error
        return _beside_base(job, saved, wanted.params)


def _beside_base(job: EdgeJob, saved: Any, like: Any) -> Any:
    """Saved parameters, adapters with the pre-trained model that they are of read again."""
    model = job.config.model
    if model.lora is None:
        return saved
    assert job.pretrained is not None
    return joined(saved, load_params(job.pretrained, given_part(like, model), model))


def _check_shapes(job: EdgeJob, mesh: Mesh) -> None:
    """Refuse before anything is built what the first update or evaluation would stumble over."""
    shape, training = step_shape(job), job.config.training
    for size in dict.fromkeys(job.schedule.steps.sizes):
        own = size != training.batch_size
        name = "schedule.batch_sizes" if own else "training.batch_size"
        check_shape(shape_of(shape, training, size), mesh, batch_name=name)
    evaluated = dataclasses.replace(
        shape, batch_size=job.config.evaluation.batch_size, accumulation=1
    )
    check_shape(evaluated, mesh, batch_name="evaluation.batch_size")


def edge_batches(job: EdgeJob, rows: BatchRows = ALL_ROWS) -> Iterator[Batch]:
    """The batches of a job, or these rows of each."""
    batches = run_dataset(
        stores=job.stores,
        views=job.views,
        schedule=job.schedule,
        document_mask=job.config.training.document_mask,
        loss_weight_by_source=loss_weights(job.config, job.schedule, job.views),
        rows=rows,
    )
    ahead = read_ahead(batches, start=job.start.step, stop=job.stop.step, threads=_READ_THREADS)
    return _with_dropout_keys(ahead, job, rows) if job.config.training.dropout else ahead


def _with_dropout_keys(batches: Iterator[Batch], job: EdgeJob, rows: BatchRows) -> Iterator[Batch]:
    steps = job.schedule.steps
    for step, batch in enumerate(batches, job.start.step):
        sequences = steps.first_sequence(step) + row_numbers(rows, steps.size(step))
        yield {**batch, DROPOUT_KEYS: dropout_keys(job.config.seed, sequences)}
