"""What a run measures, and when: held-out sets, tasks and gradient cosines, and their keys.

The plan, the jobs and the results read it here; a key names the fact that holds what was found.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.data.judging.tasks import Task
from replay_jax.sweep.plan.digest import canonical_digest
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.plan.tree import Node

# How many updates after a stage boundary the spike is measured (chosen: the loss jumps at once and
# has mostly gone after a tenth of a stage).
BOUNDARY_STEPS = 4


@dataclasses.dataclass(frozen=True)
class HeldOutSet:
    """A fixed set of held-out rows of one source, and how many are evaluated at a time."""

    source: str
    fingerprint: str
    seq_len: int
    sequences: int
    document_mask: bool
    batch_size: int

    @property
    def identity(self) -> str:
        """Hex digest of which rows are measured, and how (not of the batch size)."""
        facts = dataclasses.asdict(self)
        del facts["batch_size"], facts["source"]
        return canonical_digest(facts).hex()

    def key(self, state: str) -> str:
        """Name of the fact that says what this set gave at a state."""
        return canonical_digest({"state": state, **dataclasses.asdict(self)}).hex()

    @property
    def documents_key(self) -> str:
        """Name of the fact that says which documents the rows are of."""
        return canonical_digest({"documents": self.identity}).hex()


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """A task as a run measures it; known by the content of its file."""

    task: Task
    document_mask: bool
    batch_size: int

    def key(self, state: str) -> str:
        """Name of the fact that holds the scores at a state."""
        facts = {"task": self.task.digest, "name": self.task.name, "batch_size": self.batch_size}
        return canonical_digest({"state": state, **facts, "mask": self.document_mask}).hex()


@dataclasses.dataclass(frozen=True)
class CosinePair:
    """A generic and a target microbatch whose gradients are compared at a stage boundary."""

    generic: HeldOutSet
    target: HeldOutSet

    def key(self, state: str) -> str:
        """Name of the fact that holds the cosine at a state."""
        facts = {"cosine": [self.generic.identity, self.target.identity]}
        return canonical_digest({"state": state, **facts}).hex()


def held_out_set(config: ExperimentConfig, source: str, fingerprint: str) -> HeldOutSet:
    """The set on which a run measures one of its sources."""
    return HeldOutSet(
        source=source,
        fingerprint=fingerprint,
        seq_len=config.training.seq_len,
        sequences=config.evaluation.sequences,
        document_mask=config.training.document_mask,
        batch_size=config.evaluation.batch_size,
    )


def cosine_pair(config: ExperimentConfig, fingerprints: Mapping[str, str]) -> CosinePair:
    """The batches whose gradients a run compares: held-out rows, as many as train at once.

    Args:
        config: the run, of one generic source.
        fingerprints: of the generic and the target source, by name.
    """
    (generic,) = config.data.generics
    rows = config.training.batch_size // config.training.accumulation

    def microbatch(source: str) -> HeldOutSet:
        whole = held_out_set(config, source, fingerprints[source])
        return dataclasses.replace(whole, sequences=min(rows, whole.sequences), batch_size=rows)

    return CosinePair(microbatch(generic), microbatch(config.data.target))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What to measure at one state: held-out sets, tasks and gradient cosines."""

    node: Node
    sets: tuple[HeldOutSet, ...]
    tasks: tuple[TaskSet, ...]
    cosines: tuple[CosinePair, ...]

    def without(self, known: Callable[[str], bool]) -> "Measurement | None":
        """The part whose facts are not known yet, given by key; None if all are."""
        state = self.node.digest
        left = Measurement(
            node=self.node,
            sets=tuple(item for item in self.sets if not known(item.key(state))),
            tasks=tuple(item for item in self.tasks if not known(item.key(state))),
            cosines=tuple(item for item in self.cosines if not known(item.key(state))),
        )
        return left if left.sets or left.tasks or left.cosines else None


def measurements(runs: Sequence[Run], start: int, stop: int) -> Iterator[Measurement]:
    """What any of the runs measures at the states from `start` to `stop` updates, once each.

    The runs must share these states.
    """
    wanted: dict[int, list[Run]] = {}
    for run in runs:
        for step in evaluation_steps(run):
            if start <= step <= stop:
                wanted.setdefault(step, []).append(run)
    sets = {run.id: run_sets(run) for run in runs}
    tasks = {run.id: run_tasks(run) for run in runs}
    for step, here in sorted(wanted.items()):
        yield Measurement(
            node=runs[0].node(step),
            sets=tuple(dict.fromkeys(item for run in here for item in sets[run.id])),
            tasks=tuple(dict.fromkeys(item for run in here for item in tasks[run.id])),
            cosines=tuple(
                dict.fromkeys(
                    pair
                    for run in here
                    if step == boundary_step(run) and (pair := run_cosine(run)) is not None
                )
            ),
        )


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
    start = run.schedule.steps.step_of(run.schedule.stage_starts[-1])
    return start if start else None


def run_sets(run: Run) -> tuple[HeldOutSet, ...]:
    """The held-out sets of a run: target, then each generic source that it is judged by."""
    names = (run.schedule.target, *(name for name, _ in run.judged_generics))
    return tuple(held_out_set(run.config, name, run.views[name].fingerprint) for name in names)


def run_tasks(run: Run) -> tuple[TaskSet, ...]:
    """The tasks of a run as it measures them."""
    config = run.config
    mask, rows = config.training.document_mask, config.evaluation.batch_size
    return tuple(TaskSet(task, mask, rows) for task in run.tasks)


def run_cosine(run: Run) -> CosinePair | None:
    """The gradients that a run compares at its boundary; None with a mixture of generic sources.

    The gradient of a mixture is not that of any microbatch of one source.
    """
    if len(run.schedule.generics) > 1:
        return None
    return cosine_pair(run.config, {name: view.fingerprint for name, view in run.views.items()})
