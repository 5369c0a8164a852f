"""The digests of a run's states, and what the runs of a sweep share while they are described."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.config.identity import without_neutral
from replay_jax.data.reading.views import SourceView
from replay_jax.model.architecture import ModelConfig
from replay_jax.schedule.config import ScheduleConfig
from replay_jax.schedule.generic import Weights
from replay_jax.schedule.mixture import step_draws
from replay_jax.schedule.protocols import Schedule, build_schedule
from replay_jax.strict import to_plain
from replay_jax.sweep.plan.digest import (
    Course,
    canonical_digest,
    course_of,
    describe_start,
    key_order,
    source_key,
    state_chain,
)
from replay_jax.sweep.plan.objective import held_sources, loss_weights
from replay_jax.training.config import OptimizerConfig
from replay_jax.training.numerics import NUMERICS


@dataclasses.dataclass(frozen=True)
class Shared:
    """What several runs have in common, filled as they are described.

    Attributes:
        schedules: by what `build_schedule` makes them of.
        courses: by schedule, order of its sources' keys and where averages begin.
        states: blocks of `digest.state_chain`.
    """

    schedules: dict[tuple[ScheduleConfig, int, str | Weights, str], Schedule] = dataclasses.field(
        default_factory=dict
    )
    courses: dict[tuple[Schedule, tuple[int, ...], int], Course] = dataclasses.field(
        default_factory=dict
    )
    states: dict[bytes, bytes] = dataclasses.field(default_factory=dict)


def schedule_of(config: ExperimentConfig, shared: Shared) -> Schedule:
    """The schedule of a run; the seeds of a sweep have the same."""
    rows, generic, target = config.training.batch_size, config.data.generic, config.data.target
    known = (config.schedule, rows, generic, target)
    if known not in shared.schedules:
        shared.schedules[known] = build_schedule(
            config.schedule, batch_size=rows, generic=generic, target=target
        )
    return shared.schedules[known]


def run_chain(
    config: ExperimentConfig,
    schedule: Schedule,
    views: Mapping[str, SourceView],
    *,
    weights: str | None,
    shared: Shared,
) -> np.ndarray:
    """The digest chain of a run, uint8 [steps + 1, DIGEST_BYTES].

    `weights` is the fingerprint of the model that it starts from, None for one of the seed.
    """
    held = held_sources(config, schedule)
    keys = [
        source_key(
            name=name, view_digest=views[name].digest(), loss_weight=weight, held=name in held
        )
        for name, weight in loss_weights(config, schedule, views).items()
    ]
    known = (schedule, key_order(keys), config.training.average_start(schedule.total_steps))
    if known not in shared.courses:
        shared.courses[known] = course_of(
            step_draws(schedule),
            order=known[1],
            learning_rates=schedule.learning_rates(),
            resets=schedule.resets(),
            average_start=known[2],
        )
    return state_chain(
        initial=describe_start(
            model=_model_facts(config.model),
            numerics=NUMERICS,
            seed=config.seed,
            weights=weights,
            draws_adapters=config.model.lora is not None,
        ),
        constant=_constant_digest(
            config.optimizer,
            config.training.batch_size,
            config.training.accumulation,
            config.training.document_mask,
            (config.training.dropout, config.seed) if config.training.dropout else None,
        ),
        course=shared.courses[known],
        keys=keys,
        known=shared.states,
    )


# The runs of a sweep differ in few of their parts, so each part is described once.


@functools.cache
def _model_facts(model: ModelConfig) -> Mapping[str, Any]:
    """What a model's initial state depends on."""
    return without_neutral(to_plain(model), "model.")


@functools.cache
def _constant_digest(
    optimizer: OptimizerConfig,
    batch_size: int,
    accumulation: int,
    document_mask: bool,
    dropout: tuple[float, int] | None,
) -> bytes:
    """Of what every step of a run sees alike; dropout by its rate and the seed of its masks."""
    return canonical_digest(
        {
            "numerics": NUMERICS,
            "optimizer": without_neutral(to_plain(optimizer), "optimizer."),
            "batch_size": batch_size,
            "accumulation": accumulation,
            "document_mask": document_mask,
            **({} if dropout is None else {"dropout": list(dropout)}),
        }
    )
