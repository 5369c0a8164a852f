"""The different programs that the runs of a sweep need: what `compile` is asked about."""

import dataclasses
from collections.abc import Sequence

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.model.architecture import parameter_counts
from replay_jax.schedule.protocols import build_schedule
from replay_jax.sweep.plan.objective import held_sources
from replay_jax.training.config import StepShape, TrainingConfig
from replay_jax.training.mesh.config import MeshConfig


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """A compiled train step with what is compiled beside it.

    Attributes:
        shape: of the step.
        mesh: it is split over.
        evaluation_batch: sequences of a batch of held-out text.
        lanes: runs that are trained at once (`execution.population`).
        cosine: whether gradients are compared at a stage boundary of any of the runs.
        average: whether an average of the parameters is kept in any of them.
        runs: how many runs need it.
    """

    shape: StepShape
    mesh: MeshConfig
    evaluation_batch: int
    lanes: int
    cosine: bool
    average: bool
    runs: int

    @property
    def words(self) -> str:
        """What tells it from the other programs of a sweep."""
        shape, parameters = self.shape, parameter_counts(self.shape.model).total
        return f"{parameters:,} parameters, {shape.batch_size} x {shape.seq_len}"


def programs_of(configs: Sequence[ExperimentConfig]) -> tuple[StepProgram, ...]:
    """Every program once, in the order of the first run that needs it."""
    found: dict[tuple[object, ...], StepProgram] = {}
    for program in (each for config in configs for each in _programs(config)):
        key = (program.shape, program.mesh, program.evaluation_batch, program.lanes)
        if key in found:
            earlier = found[key]
            program = dataclasses.replace(
                earlier,
                cosine=earlier.cosine or program.cosine,
                average=earlier.average or program.average,
                runs=earlier.runs + 1,
            )
        found[key] = program
    return tuple(found.values())


def _programs(config: ExperimentConfig) -> list[StepProgram]:
    """Those of one run: one for every batch size that it has."""
    schedule = build_schedule(
        config.schedule,
        batch_size=config.training.batch_size,
        generic=config.data.generic,
        target=config.data.target,
    )
    names = schedule.source_names
    shape = StepShape(
        model=config.model,
        batch_size=config.training.batch_size,
        seq_len=config.training.seq_len,
        sources=len(names),
        document_mask=config.training.document_mask,
        optimizer=config.optimizer.kind,
        kl_sources=tuple(names.index(name) for name in held_sources(config, schedule)),
        dropout=config.training.dropout,
    )
    return [
        StepProgram(
            shape=shape_of(shape, config.training, size),
            mesh=config.mesh,
            evaluation_batch=config.evaluation.batch_size,
            lanes=config.execution.population,
            cosine=schedule.steps.step_of(schedule.stage_starts[-1]) > 0,
            average=config.training.average_last > 0,
            runs=1,
        )
        for size in dict.fromkeys(schedule.steps.sizes)
    ]


def shape_of(shape: StepShape, training: TrainingConfig, batch_size: int) -> StepShape:
    """The shape of a step of a run's other batch size."""
    return dataclasses.replace(
        shape, batch_size=batch_size, accumulation=training.accumulation_of(batch_size)
    )
