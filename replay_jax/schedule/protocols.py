"""Configured schedules: what a config file may ask for, turned into an exact `Schedule`."""

import dataclasses
from typing import Any

from replay_jax.errors import UserError
from replay_jax.schedule.authors import in_blocks
from replay_jax.schedule.config import ARITHMETICS, ScheduleConfig, StageConfig
from replay_jax.schedule.generic import Weights, mixture_name, whole_shares, with_generic_sources
from replay_jax.schedule.sizes import own_size, stage_sizes
from replay_jax.schedule.stages import (
    Realised,
    Requested,
    Schedule,
    Stage,
    apportion,
    nearest,
)
from replay_jax.schedule.two_stage import continual, fine_tuning, two_stage, uniform

__all__ = [
    "Realised",
    "Requested",
    "Schedule",
    "ScheduleConfig",
    "Stage",
    "StageConfig",
    "build_schedule",
    "continual",
    "fine_tuning",
    "from_stages",
    "two_stage",
    "uniform",
]


def from_stages(
    stages: tuple[StageConfig, ...],
    *,
    batch_size: int,
    generic: str = "generic",
    target: str = "target",
    target_sequences: int | None = None,
    batch_sizes: tuple[int, ...] = (),
) -> Schedule:
    """Returns a schedule of any number of stages and sources.

    Lengths are rounded to the nearest sequence at the cumulative boundaries, so they never drift;
    the counts of a stage are its shares' means by largest remainder. `target_sequences` is the
    target budget, for the realised epochs. `batch_sizes` are those of the stages where they are not
    `batch_size`, in steps of which all lengths are told. Raises UserError if a stage is empty, its
    shares do not sum to 1, or the stages do not fill whole steps.
    """
    built: list[Stage] = []
    sizes = stage_sizes(batch_sizes, len(stages), batch_size)
    steps, start = 0.0, 0
    for number, stage in enumerate(stages, 1):
        if not stage.steps > 0:
            raise UserError(f"stage {number} has {stage.steps} steps; it needs more than none")
        if not stage.shares:
            raise UserError(f"stage {number} has no sources")
        steps += stage.steps
        end = nearest(steps * batch_size)
        for which, shares in (
            ("starts", [share for _, share, _ in stage.shares]),
            ("ends", [share for _, _, share in stage.shares]),
        ):
            if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
                raise UserError(f"stage {number} {which} with shares {shares}, which are not 1")
        counts = apportion(end - start, [(first + last) / 2 for _, first, last in stage.shares])
        ramps = any(first != last for _, first, last in stage.shares)
        names = [name for name, _, _ in stage.shares]
        built.append(
            Stage(
                sequences=end - start,
                counts=tuple(zip(names, counts, strict=True)),
                learning_rate=stage.learning_rate,
                optimizer_start=stage.optimizer_start,
                ramp=stage.shares if ramps else (),
                name=f"stage {number}",
                batch_size=own_size(sizes[number - 1], batch_size),
            )
        )
        start = end
    return Schedule(
        batch_size=batch_size,
        stages=tuple(built),
        requested=Requested("stages", target_sequences=target_sequences),
        generic=generic,
        target=target,
    )


def build_schedule(
    config: ScheduleConfig, *, batch_size: int, generic: str | Weights, target: str
) -> Schedule:
    """Returns the schedule that a configuration asks for, with one generic source or a mixture.

    "two_stage" uses every field but `stages`. "fine_tuning" uses `replay_fraction` and
    `stage2_learning_rate`, with `stage2_optimizer` "reset" and all target data in stage 2.
    "uniform" uses none of the stage-2 fields, "continual" only `replay_fraction`, and its steps
    follow from the rest. "stages" uses `stages`, whose steps sum to
    `total_steps` and whose first learning rate is `learning_rate`; they name their sources, so
    they take no mixture. Protocols of several stages may have `batch_sizes`. Raises UserError if a
    field is set that the protocol does not use, or one that it needs is not.
    """
    if not isinstance(generic, str):
        return _with_mixture(config, batch_size, generic, target)
    if config.arithmetic not in ARITHMETICS:
        raise UserError(f"arithmetic {config.arithmetic!r} is not one of {', '.join(ARITHMETICS)}")
    schedule = _exact(config, batch_size, generic, target)
    return in_blocks(schedule) if config.arithmetic == "authors" else schedule


def _exact(config: ScheduleConfig, batch_size: int, generic: str, target: str) -> Schedule:
    if config.protocol not in _UNUSED_FIELDS:
        raise UserError(f"protocol {config.protocol!r} is not one of {', '.join(_UNUSED_FIELDS)}")
    for name in _UNUSED_FIELDS[config.protocol]:
        value, unset = getattr(config, name), _UNSET.get(name)
        if value != unset:
            raise UserError(
                f"protocol {config.protocol!r} does not use {name}; leave it at {unset!r} "
                f"instead of {value!r}"
            )
    if config.protocol == "stages":
        return _configured_stages(config, batch_size, generic, target)
    if config.target_sequences is None or config.target_epochs is None:
        raise UserError(f"protocol {config.protocol!r} needs target_sequences and target_epochs")
    sizes: dict[str, Any] = {
        "batch_size": batch_size,
        "target_sequences": config.target_sequences,
        "target_epochs": config.target_epochs,
        "learning_rate": config.learning_rate,
        "generic": generic,
        "target": target,
    }
    if config.protocol == "continual":
        return _configured_continual(config, sizes)
    sizes["total_steps"] = _total_steps(config)
    if config.protocol == "uniform":
        return uniform(**sizes)
    sizes["batch_sizes"] = config.batch_sizes
    if config.protocol == "fine_tuning":
        return _configured_fine_tuning(config, sizes)
    return two_stage(
        replay_fraction=config.replay_fraction,
        stage2_steps=config.stage2_steps,
        stage2_allocation=config.stage2_allocation,
        stage2_learning_rate=config.stage2_learning_rate,
        stage2_optimizer=config.stage2_optimizer,
        placement=config.placement,
        aligned_replay_fraction=config.aligned_replay_fraction,
        **sizes,
    )


def _with_mixture(
    config: ScheduleConfig, batch_size: int, generic: Weights, target: str
) -> Schedule:
    shares = whole_shares(generic)
    if config.protocol == "stages":
        raise UserError(
            "protocol 'stages' names the sources of every stage itself, so data.generic must be "
            f"one source and not the mixture {mixture_name(shares)}: give each its share there"
        )
    whole = build_schedule(
        config, batch_size=batch_size, generic=mixture_name(shares), target=target
    )
    return with_generic_sources(whole, shares)


_STAGE2_FIELDS = (
    "replay_fraction",
    "stage2_steps",
    "stage2_allocation",
    "placement",
    "aligned_replay_fraction",
    "stage2_learning_rate",
    "stage2_optimizer",
)
_SEVERAL_STAGES = (*_STAGE2_FIELDS, "batch_sizes")
# Per protocol, the fields that must be left alone, and what "left alone" is if it is not None.
_UNUSED_FIELDS = {
    "two_stage": ("stages",),
    "fine_tuning": ("stages", "stage2_steps", "placement", "aligned_replay_fraction"),
    "uniform": ("stages", *_SEVERAL_STAGES),
    "continual": (
        "total_steps",
        "stages",
        *(name for name in _SEVERAL_STAGES if name not in ("replay_fraction", "stage2_allocation")),
    ),
    "stages": ("target_epochs", *_STAGE2_FIELDS),
}
_UNSET = {"placement": "paper", "stage2_optimizer": "continue", "stages": (), "batch_sizes": ()}


def _total_steps(config: ScheduleConfig) -> int:
    if config.total_steps is None:
        raise UserError(f"protocol {config.protocol!r} needs total_steps")
    return config.total_steps


def _configured_continual(config: ScheduleConfig, sizes: dict[str, Any]) -> Schedule:
    if config.stage2_allocation not in (None, 1):
        raise UserError(
            "continual training has one stage, so stage2_allocation cannot be "
            f"{config.stage2_allocation}; leave it out or use two_stage"
        )
    if config.replay_fraction is None:
        raise UserError("continual training needs replay_fraction; 0 trains on target data alone")
    return continual(replay_fraction=config.replay_fraction, **sizes)


def _configured_fine_tuning(config: ScheduleConfig, sizes: dict[str, Any]) -> Schedule:
    if config.stage2_allocation not in (None, 1):
        raise UserError(
            "fine_tuning puts all target data in stage 2, so stage2_allocation cannot be "
            f"{config.stage2_allocation}; leave it out or use two_stage"
        )
    if config.replay_fraction is None or config.stage2_learning_rate is None:
        raise UserError("fine_tuning needs replay_fraction and stage2_learning_rate")
    if config.stage2_optimizer != "reset":
        raise UserError(
            "fine_tuning starts stage 2 with a fresh optimizer, so stage2_optimizer cannot be "
            f"{config.stage2_optimizer!r}; set it to 'reset' or use two_stage"
        )
    return fine_tuning(
        replay_fraction=config.replay_fraction,
        stage2_learning_rate=config.stage2_learning_rate,
        **sizes,
    )


def _configured_stages(
    config: ScheduleConfig, batch_size: int, generic: str, target: str
) -> Schedule:
    if not config.stages:
        raise UserError("protocol 'stages' needs at least one stage")
    steps, total = sum(stage.steps for stage in config.stages), _total_steps(config)
    if abs(steps - total) * batch_size >= 0.5:
        raise UserError(f"the stages have {steps:g} steps together but total_steps is {total}")
    first, *others = config.stages
    if first.learning_rate is not None:
        raise UserError(
            "the first stage's learning rate is the schedule's learning_rate; leave its own out"
        )
    return from_stages(
        (dataclasses.replace(first, learning_rate=config.learning_rate), *others),
        batch_size=batch_size,
        generic=generic,
        target=target,
        target_sequences=config.target_sequences,
        batch_sizes=config.batch_sizes,
    )
