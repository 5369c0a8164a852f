"""A task made self-contained: everything a worker needs to train one edge, and nothing else."""

import dataclasses
from collections.abc import Iterator, Mapping

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.data.reading.views import SourceView
from replay_jax.data.tokens.store import TokenStore
from replay_jax.errors import UserError
from replay_jax.hub.folder import Pretrained
from replay_jax.schedule.protocols import Schedule
from replay_jax.sweep.plan.digest import DIGEST_BYTES
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.plan.work import Task
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.measuring import (
    CosinePair,
    HeldOutSet,
    TaskSet,
    cosine_pair,
    held_out_set,
)

# How many updates after a stage boundary the spike is measured (chosen: the loss jumps at once and
# has mostly gone after a tenth of a stage).
BOUNDARY_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What to measure at one state: held-out sets, tasks and gradient cosines."""

    node: Node
    sets: tuple[HeldOutSet, ...]
    tasks: tuple[TaskSet, ...]
    cosines: tuple[CosinePair, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class EdgeJob:
    """One task for one worker; can be pickled.

    Attributes:
        name: the edge in words.
        start: state to begin from.
        stop: state to reach.
        save: whether the state at `stop` must be saved.
        digests: digests of the states `start.step` … `stop.step`, joined.
        config: configuration of one of the runs through the edge; they agree on all that matters.
        schedule: its schedule.
        views: its views.
        stores: prepared stores of all sources that are drawn or measured.
        cuts: sequence numbers at which consumed rows are counted apart (stage starts of all runs).
        marks: steps at which any of the runs is evaluated; training losses are summed between them.
        measurements: what is still to be measured on the way, by ascending step.
        pretrained: the model that step 0 starts from, None for parameters of the seed.
    """

    name: str
    start: Node
    stop: Node
    save: bool
    digests: bytes
    config: ExperimentConfig
    schedule: Schedule
    views: Mapping[str, SourceView]
    stores: Mapping[str, TokenStore]
    cuts: tuple[int, ...]
    marks: frozenset[int]
    measurements: tuple[Measurement, ...]
    pretrained: Pretrained | None

    def node(self, step: int) -> Node:
        """The state after `step` updates, for any step of the job."""
        first = (step - self.start.step) * DIGEST_BYTES
        return Node(self.digests[first : first + DIGEST_BYTES].hex(), step)


def make_job(
    plan: Plan, task: Task, *, store: WorkStore, stores: Mapping[str, TokenStore]
) -> EdgeJob:
    """Make a task self-contained; what is measured already is not measured again.

    Raises:
        UserError: a source that is needed is not prepared.
    """
    runs = [plan.runs[number] for number in task.runs]
    owner = runs[0]
    needed = sorted({name for run in runs for name in run.schedule.source_names})
    for name in needed:
        if name not in stores:
            raise UserError(f"source '{name}' is not prepared: run `replay-jax prepare` first")
    digests = owner.chain[task.start.step : task.stop.step + 1].tobytes()
    return EdgeJob(
        name=edge_name(plan, task.edge),
        start=task.start,
        stop=task.stop,
        save=task.save,
        digests=digests,
        config=owner.config,
        schedule=owner.schedule,
        views=owner.views,
        stores={name: stores[name] for name in needed},
        cuts=tuple(sorted({cut for run in runs for cut in run.schedule.stage_starts})),
        marks=frozenset(step for run in runs for step in evaluation_steps(run)),
        measurements=tuple(_measurements(runs, task, store)),
        pretrained=owner.pretrained,
    )


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


def edge_name(plan: Plan, number: int) -> str:
    """An edge in words: its steps, and the run or the number of runs that pass through it."""
    edge = plan.edges[number]
    first = plan.runs[edge.runs[0]].name
    who = first if len(edge.runs) == 1 else f"{len(edge.runs)} runs"
    return f"{edge.start.step}–{edge.stop.step} {who}"


def evaluation_steps(run: Run) -> list[int]:
    """Numbers of completed updates at which a run is evaluated, its end always among them.

    0 is among them where training starts from a pre-trained model.
    """
    steps = {run.steps}
    if run.config.training.evaluate_every:
        steps.update(range(0, run.steps, run.config.training.evaluate_every))
    boundary = boundary_step(run)
    if boundary is not None:
        steps.update((boundary, min(boundary + BOUNDARY_STEPS, run.steps)))
    return sorted(steps - {0} if run.pretrained is None else steps | {0})


def boundary_step(run: Run) -> int | None:
    """Updates completed when the last stage has given nothing yet; None for a single stage."""
    start = run.schedule.stage_starts[-1] // run.config.training.batch_size
    return start if start else None


def run_sets(run: Run) -> tuple[HeldOutSet, HeldOutSet]:
    """The held-out sets of a run: target, generic."""
    names = (run.schedule.target, run.schedule.generic)
    target, generic = (
        held_out_set(run.config, name, run.views[name].fingerprint) for name in names
    )
    return target, generic


def run_tasks(run: Run) -> tuple[TaskSet, ...]:
    """The tasks of a run as it measures them."""
    config = run.config
    mask, rows = config.training.document_mask, config.evaluation.batch_size
    return tuple(TaskSet(task, mask, rows) for task in run.tasks)


def run_cosine(run: Run) -> CosinePair:
    """The gradients that a run compares at its boundary."""
    return cosine_pair(run.config, {name: view.fingerprint for name, view in run.views.items()})


def _measurements(runs: list[Run], task: Task, store: WorkStore) -> Iterator[Measurement]:
    wanted: dict[int, _Wanted] = {}
    for run in runs:
        for step in evaluation_steps(run):
            if task.start.step <= step <= task.stop.step:
                here = wanted.setdefault(step, _Wanted())
                here.sets.update(dict.fromkeys(run_sets(run)))
                here.tasks.update(dict.fromkeys(run_tasks(run)))
                if step == boundary_step(run):
                    here.cosines[run_cosine(run)] = None
    for step, here in sorted(wanted.items()):
        node = Node(runs[0].chain[step].tobytes().hex(), step)
        missing = Measurement(
            node=node,
            sets=tuple(s for s in here.sets if _is_missing(s, node, store)),
            tasks=tuple(t for t in here.tasks if _is_missing(t, node, store)),
            cosines=tuple(c for c in here.cosines if _is_missing(c, node, store)),
        )
        if missing.sets or missing.tasks or missing.cosines:
            yield missing


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What any of the runs measures at a step, in order and once each."""

    sets: dict[HeldOutSet, None] = dataclasses.field(default_factory=dict)
    tasks: dict[TaskSet, None] = dataclasses.field(default_factory=dict)
    cosines: dict[CosinePair, None] = dataclasses.field(default_factory=dict)


def _is_missing(what: HeldOutSet | TaskSet | CosinePair, node: Node, store: WorkStore) -> bool:
    return store.evaluation(what.key(node.digest)) is None
