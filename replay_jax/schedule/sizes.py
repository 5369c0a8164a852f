"""The sizes of a two-stage run in exact integers: any two of rho, alpha and length give the third.

With N sequences in the run, T of them target, T2 of those in stage 2 and N2 sequences in stage 2
(arXiv 2603.04964, appendix A),

    gamma = T / N      alpha = T2 / T      delta = N2 / N      rho = 1 - T2 / N2
    delta = gamma alpha / (1 - rho)        w1 = gamma (1 - alpha) / (1 - delta)

T and T2 are settled first and N2 after them, so the number of target sequences is always exact and
only rho and delta are rounded, to the nearest sequence, or to the nearest step where the boundary
must be a whole step: N2 is then a multiple of `unit`, the sequences of a step, or where the stages
have batches of two sizes the least common multiple of both.
"""

import math
from dataclasses import dataclass

from replay_jax.errors import UserError
from replay_jax.schedule.stages import apportion, nearest


@dataclass(frozen=True)
class RunSize:
    """N and T of a run, with the batch size B, all but steps in sequences."""

    total_steps: int
    batch_size: int
    target: int

    @property
    def sequences(self) -> int:
        return self.total_steps * self.batch_size


@dataclass(frozen=True)
class Stage2Size:
    """T2 and N2: target sequences of stage 2, and all of its sequences."""

    target: int
    sequences: int


def run_size(
    total_steps: int, batch_size: int, target_sequences: int, target_epochs: float
) -> RunSize:
    """Settles N and T.

    Raises UserError if a size is not a whole number of at least 1, if T is not a whole number of
    sequences, or if T exceeds N.
    """
    for name, value in (
        ("total_steps", total_steps),
        ("batch_size", batch_size),
        ("target_sequences", target_sequences),
    ):
        if value < 1 or value != int(value):
            raise UserError(f"{name} must be a whole number of at least 1, got {value}")
    if not 0 < target_epochs < math.inf:
        raise UserError(f"target_epochs must be positive, got {target_epochs}")
    drawn = target_sequences * target_epochs
    run = RunSize(int(total_steps), int(batch_size), nearest(drawn))
    if abs(drawn - run.target) > 1e-6:
        raise UserError(
            f"{target_sequences} target sequences x {target_epochs} epochs = {drawn:g} is not a "
            f"whole number; {run.target / target_sequences:g} epochs would be"
        )
    if not 1 <= run.target <= run.sequences:
        raise UserError(
            f"{target_sequences} target sequences x {target_epochs:g} epochs = {run.target} do "
            f"not fit in {total_steps} steps of {batch_size} = {run.sequences} sequences"
        )
    return run


def stage_sizes(batch_sizes: tuple[int, ...], stages: int, batch_size: int) -> tuple[int, ...]:
    """The batch size of every stage: `batch_size` where none is given.

    Raises UserError unless there is one of at least 1 for each stage, or none.
    """
    if batch_sizes and len(batch_sizes) != stages:
        raise UserError(
            f"schedule.batch_sizes {list(batch_sizes)} must have one for each of the {stages} "
            f"stages, or none for training.batch_size {batch_size} in all"
        )
    if any(size < 1 for size in batch_sizes):
        raise UserError(f"schedule.batch_sizes {list(batch_sizes)} must be at least 1 each")
    return batch_sizes or (batch_size,) * stages


def own_size(size: int, batch_size: int) -> int | None:
    """The batch size of a stage, None for that of the schedule."""
    return None if size == batch_size else size


def stage2_size(
    run: RunSize,
    *,
    replay_fraction: float | None,
    stage2_steps: float | None,
    stage2_allocation: float | None,
    unit: int | None,
) -> Stage2Size:
    """Settles T2 and N2 from any two of rho, steps and alpha; N2 in whole `unit`s if there is one.

    Raises UserError, with both numbers, if not exactly two are given or they do not fit the run.
    """
    rho, alpha = replay_fraction, stage2_allocation
    if sum(value is not None for value in (rho, stage2_steps, alpha)) != 2:
        raise UserError(
            "give exactly two of replay_fraction, stage2_steps and stage2_allocation; got "
            f"{rho}, {stage2_steps} and {alpha}"
        )
    if rho is not None and not 0 <= rho < 1:
        raise UserError(f"replay_fraction {rho} must lie in [0, 1)")
    if alpha is not None and not 0 <= alpha <= 1:
        raise UserError(f"stage2_allocation {alpha} must lie in [0, 1]")
    given = None if stage2_steps is None else _given_length(run, stage2_steps, unit)
    if alpha is not None:
        target = apportion(run.target, (1 - alpha, alpha))[1]
    else:
        assert given is not None and rho is not None
        target = apportion(given, (rho, 1 - rho))[1]
    if target == 0 and (alpha != 0 or given is None):
        raise UserError(
            f"stage 2 would get none of the {run.target} target sequences (replay_fraction {rho}, "
            f"stage2_steps {stage2_steps}, stage2_allocation {alpha}); raise its share"
        )
    if given is None:
        assert rho is not None
        given = stage2_length(target, replay_fraction=rho, unit=unit)
    stage2 = Stage2Size(target, given)
    check_fit(run, stage2)
    return stage2


def _given_length(run: RunSize, stage2_steps: float, unit: int | None) -> int:
    """N2 where it was given in steps."""
    if not 0 < stage2_steps <= run.total_steps:
        raise UserError(
            f"stage2_steps {stage2_steps} must be positive and at most the run's {run.total_steps}"
        )
    given = stage2_steps * run.batch_size
    if unit is not None and given % unit:
        near = max(1, nearest(given / unit)) * unit / run.batch_size
        raise UserError(
            f"stage2_steps {stage2_steps:g} must be {_multiple(unit / run.batch_size)} where stage "
            "2 resets the optimizer or has its own learning rate or batch size; the nearest is "
            f"{near:g}"
        )
    return max(1, nearest(given))


def _multiple(steps: float) -> str:
    return "whole" if steps == 1 else f"a multiple of {steps:g}"


def stage2_length(target: int, *, replay_fraction: float, unit: int | None) -> int:
    """N2 for T2 target sequences at rho: T2 / (1 - rho), to the nearest sequence or `unit`.

    Raises UserError if whole steps would put generic rows into a stage 2 that asked for none.
    """
    unit = unit or 1
    if replay_fraction == 0 and target % unit:
        raise UserError(
            f"{target} target sequences do not fill whole steps of {unit}, so a stage 2 "
            "of its own cannot be without generic rows; change target_sequences, or let the "
            "optimizer, learning rate and batch size go on"
        )
    exact = target / (1 - replay_fraction)
    return max(nearest(exact / unit), math.ceil(target / unit)) * unit


def check_fit(run: RunSize, stage2: Stage2Size) -> None:
    """Raises UserError unless both stages can hold their target sequences."""
    if stage2.target > run.target:
        raise UserError(
            f"stage 2 would hold {stage2.target} target sequences but the run has {run.target}; "
            "raise replay_fraction or lower stage2_steps"
        )
    if stage2.target > stage2.sequences:
        raise UserError(
            f"stage 2 has {stage2.sequences} sequences for {stage2.target} of target data; "
            "lengthen it or lower stage2_allocation"
        )
    if stage2.sequences > run.sequences:
        raise UserError(
            f"stage 2 needs {stage2.sequences} sequences but the run has {run.sequences}; "
            "lower replay_fraction, stage2_allocation or target_epochs"
        )
    stage1, in_stage1 = run.sequences - stage2.sequences, run.target - stage2.target
    if in_stage1 > stage1:
        raise UserError(
            f"stage 1 has {stage1} sequences for {in_stage1} of target data; "
            "shorten stage 2 or raise stage2_allocation"
        )


def is_tied(
    run: RunSize,
    *,
    replay_fraction: float | None,
    stage2_steps: float | None,
    stage2_allocation: float | None,
) -> bool:
    """Whether the request is the tied point: rho = 1 - gamma, or else alpha = delta."""
    if replay_fraction is not None:
        return abs(1 - replay_fraction - run.target / run.sequences) < 1e-9
    assert stage2_allocation is not None and stage2_steps is not None
    return abs(stage2_allocation - stage2_steps / run.total_steps) < 1e-9


def tied_size(run: RunSize, stage2: Stage2Size) -> Stage2Size:
    """Moves a tied boundary to the nearest place where T2 / N2 = T / N holds in integers."""
    places = math.gcd(run.target, run.sequences)
    chosen = max(1, nearest(stage2.sequences * places / run.sequences))
    return Stage2Size(run.target // places * chosen, run.sequences // places * chosen)
