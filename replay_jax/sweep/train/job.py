"""A task made self-contained: everything a worker needs to train one edge, and nothing else."""

import dataclasses
import os
from collections.abc import Mapping

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.data.reading.views import SourceView
from replay_jax.data.tokens.store import TokenStore
from replay_jax.errors import UserError
from replay_jax.hub.folder import Pretrained
from replay_jax.schedule.protocols import Schedule
from replay_jax.sweep.plan.digest import DIGEST_BYTES
from replay_jax.sweep.plan.measured import Measurement, evaluation_steps, measurements
from replay_jax.sweep.plan.objective import held_sources
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.programs import shape_of
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.plan.work import Task
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.config import StepShape


@dataclasses.dataclass(frozen=True, eq=False)
class EdgeJob:
    """One task for one worker; can be pickled.

    Attributes:
        name: the edge in words.
        start: state to begin from.
        stop: state to reach.
        save: whether the state at `stop` must be saved.
        keep_end: whether the parameters at `stop` are kept, as runs end there.
        digests: digests of the states `start.step` … `stop.step`, joined.
        config: configuration of one of the runs through the edge; they agree on all that matters.
        schedule: its schedule.
        views: its views.
        stores: prepared stores of all sources that are drawn or measured.
        cuts: sequence numbers at which consumed rows are counted apart (stage starts of all runs).
        marks: steps at which any of the runs is evaluated; training losses are summed between them.
        measurements: what is still to be measured on the way, by ascending step.
        pretrained: the model that step 0 starts from, None for parameters of the seed.
        accept_environment: whether the working directory may hold results of another environment.
        lease: number of the lease under which the job may publish, 0 for none.
    """

    name: str
    start: Node
    stop: Node
    save: bool
    keep_end: bool
    digests: bytes
    config: ExperimentConfig
    schedule: Schedule
    views: Mapping[str, SourceView]
    stores: Mapping[str, TokenStore]
    cuts: tuple[int, ...]
    marks: frozenset[int]
    measurements: tuple[Measurement, ...]
    pretrained: Pretrained | None
    accept_environment: bool
    lease: int

    @property
    def batch_size(self) -> int:
        """Sequences of every update of the job: where that changes stands a node of the tree."""
        return self.schedule.steps.size(self.start.step)

    @property
    def average_start(self) -> int:
        """Updates of the run before those whose parameters are averaged."""
        return self.config.training.average_start(self.schedule.total_steps)

    def node(self, step: int) -> Node:
        """The state after `step` updates, for any step of the job."""
        first = (step - self.start.step) * DIGEST_BYTES
        return Node(self.digests[first : first + DIGEST_BYTES].hex(), step)


def make_job(
    plan: Plan,
    task: Task,
    *,
    store: WorkStore,
    stores: Mapping[str, TokenStore],
    accept_environment: bool,
) -> EdgeJob:
    """Make a task self-contained; what is measured already is not measured again.

    Raises:
        UserError: a source that is needed is not prepared.
    """
    runs = [plan.runs[number] for number in task.runs]
    owner = runs[0]
    needed = sorted({name for run in runs for name in run.views})
    for name in needed:
        if name not in stores:
            raise UserError(f"source '{name}' is not prepared: run `replay-jax prepare` first")
    wanted = measurements(runs, task.start.step, task.stop.step)

    def known(key: str) -> bool:
        return store.evaluation(key) is not None

    digests = owner.chain[task.start.step : task.stop.step + 1].tobytes()
    return EdgeJob(
        name=plan.edge_name(task.edge),
        start=task.start,
        stop=task.stop,
        save=task.save,
        keep_end=task.stop.digest in plan.kept_ends,
        digests=digests,
        config=owner.config,
        schedule=owner.schedule,
        views=owner.views,
        stores={name: stores[name] for name in needed},
        cuts=tuple(sorted({cut for run in runs for cut in run.schedule.stage_starts})),
        marks=frozenset(step for run in runs for step in evaluation_steps(run)),
        measurements=tuple(left for each in wanted if (left := each.without(known))),
        pretrained=owner.pretrained and _absolute(owner.pretrained),
        accept_environment=accept_environment,
        lease=store.lease,
    )


def _absolute(model: Pretrained) -> Pretrained:
    """A worker may stand in another folder."""
    return dataclasses.replace(model, folder=os.path.abspath(model.folder))


def resume_step(job: EdgeJob, store: WorkStore) -> int:
    """Updates completed at the last state on a job's way that is saved by now.

    A process that did the job before may have been lost after it had saved some.
    """
    names = store.state_names()
    for step in range(job.stop.step, job.start.step, -1):
        digest = job.node(step).digest
        if digest in names and store.saved_step(digest) is not None:
            return step
    return job.start.step


def resume_job(job: EdgeJob, store: WorkStore) -> EdgeJob:
    """The same job from the last state on its way that is saved by now."""
    return start_at(job, resume_step(job, store))


def start_at(job: EdgeJob, step: int) -> EdgeJob:
    """The same job from the state after `step` updates, on its way."""
    return dataclasses.replace(
        job,
        start=job.node(step),
        digests=job.digests[(step - job.start.step) * DIGEST_BYTES :],
        measurements=tuple(m for m in job.measurements if m.node.step >= step),
    )


def update_shape(job: EdgeJob) -> StepShape:
    """What the updates of a job are compiled for."""
    return shape_of(step_shape(job), job.config.training, job.batch_size)


def step_shape(job: EdgeJob | Run) -> StepShape:
    """What the train step of a run is compiled for where no stage has a batch size of its own.

    What measures is shaped after it in every stage, so that equal states measure alike.
    """
    training, names = job.config.training, job.schedule.source_names
    held = held_sources(job.config, job.schedule)
    return StepShape(
        model=job.config.model,
        batch_size=training.batch_size,
        seq_len=training.seq_len,
        sources=len(names),
        accumulation=training.accumulation,
        document_mask=training.document_mask,
        optimizer=job.config.optimizer.kind,
        kl_sources=tuple(names.index(name) for name in held),
        dropout=training.dropout,
    )
