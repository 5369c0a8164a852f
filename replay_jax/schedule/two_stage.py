"""The paper's schedules: two stages, fine-tuning, uniform mixing, and going on from a model.

Placement "paper" spreads the stage-1 target sequences evenly over stage 1, so their positions
depend a little on rho. Placement "aligned" spreads them over the stage 1 that
`aligned_replay_fraction` would leave, and fills the rest of stage 1 with generic rows, so all runs
that differ only in rho <= `aligned_replay_fraction` begin identically.

At the tied point (rho = 1 - gamma, so alpha = delta) a boundary inside the run makes no
difference, and the rows are exactly those of uniform mixing: the boundary is moved to the nearest
place where both stages hold whole numbers of target sequences at the share gamma, and dropped
where there is none. A boundary that must be a whole step is not moved; there, and with aligned
placement, the two agree only as far as rounding allows.
"""

import dataclasses
import math

from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.sizes import (
    RunSize,
    Stage2Size,
    check_fit,
    is_tied,
    own_size,
    run_size,
    stage2_length,
    stage2_size,
    stage_sizes,
    tied_size,
)
from replay_jax.schedule.stages import Requested, Schedule, Stage, nearest


def two_stage(
    *,
    total_steps: int,
    batch_size: int,
    target_sequences: int,
    target_epochs: float,
    learning_rate: LearningRate,
    replay_fraction: float | None = None,
    stage2_steps: float | None = None,
    stage2_allocation: float | None = None,
    stage2_learning_rate: LearningRate | None = None,
    stage2_optimizer: str = "continue",
    placement: str = "paper",
    aligned_replay_fraction: float | None = None,
    batch_sizes: tuple[int, ...] = (),
    generic: str = "generic",
    target: str = "target",
) -> Schedule:
    """Returns the schedule with target data rare in stage 1 and dense in stage 2.

    Exactly two of `replay_fraction` (rho, in [0, 1)), `stage2_steps` (may be fractional) and
    `stage2_allocation` (alpha, in [0, 1]) are given and imply the third. With a
    `stage2_learning_rate` or `stage2_optimizer="reset"` the boundary is a whole step; otherwise
    it may lie inside a batch. `batch_sizes` are those of stages 1 and 2 where they are not
    `batch_size`, in steps of which all lengths are told: the rows that are drawn stay the same and
    updates become more or fewer; where the two differ the boundary is a whole step of both. Raises
    UserError, with both numbers, for a request that no integers can meet.
    """
    run = run_size(total_steps, batch_size, target_sequences, target_epochs)
    sizes = stage_sizes(batch_sizes, 2, batch_size)
    whole_steps = stage2_learning_rate is not None or stage2_optimizer == "reset"
    unit = math.lcm(*sizes) if whole_steps or sizes[0] != sizes[1] else None
    asked: dict[str, float | None] = {
        "replay_fraction": replay_fraction,
        "stage2_steps": stage2_steps,
        "stage2_allocation": stage2_allocation,
    }
    stage2 = stage2_size(run, unit=unit, **asked)
    stage2, longest = _placed(run, stage2, placement, aligned_replay_fraction, unit, asked)
    if stage2.sequences == run.sequences and stage2_learning_rate is not None:
        raise UserError(
            f"stage 2 takes all {total_steps} steps and leaves none for stage 1 and its learning "
            "rate; lower replay_fraction or target_epochs, or leave stage2_learning_rate out"
        )
    rates, starts = (learning_rate, stage2_learning_rate), ("continue", stage2_optimizer)
    stages = _stages(run, stage2, longest, (generic, target), rates, starts, sizes)
    requested = Requested(
        "two_stage",
        target_sequences,
        target_epochs,
        placement=placement,
        aligned_replay_fraction=aligned_replay_fraction,
        **asked,
    )
    return Schedule(batch_size, stages, requested, generic, target)


def fine_tuning(
    *,
    total_steps: int,
    batch_size: int,
    target_sequences: int,
    target_epochs: float,
    replay_fraction: float,
    learning_rate: LearningRate,
    stage2_learning_rate: LearningRate,
    batch_sizes: tuple[int, ...] = (),
    generic: str = "generic",
    target: str = "target",
) -> Schedule:
    """Returns the compute-matched protocol: generic pre-training, then fine-tuning with replay.

    The total number of steps is fixed, so the steps that replay adds to stage 2 are taken from
    pre-training. Stage 1 is purely generic with its own learning-rate span; stage 2 starts with a
    whole step, a fresh optimizer and its own span, and holds every target sequence (paper,
    section 3; joint_ptft in the authors' code). Raises UserError, with both numbers, if nothing
    is left for pre-training.
    """
    schedule = two_stage(
        total_steps=total_steps,
        batch_size=batch_size,
        target_sequences=target_sequences,
        target_epochs=target_epochs,
        learning_rate=learning_rate,
        replay_fraction=replay_fraction,
        stage2_allocation=1.0,
        stage2_learning_rate=stage2_learning_rate,
        stage2_optimizer="reset",
        batch_sizes=batch_sizes,
        generic=generic,
        target=target,
    )
    requested = dataclasses.replace(schedule.requested, protocol="fine_tuning")
    return dataclasses.replace(schedule, requested=requested)


def uniform(
    *,
    total_steps: int,
    batch_size: int,
    target_sequences: int,
    target_epochs: float,
    learning_rate: LearningRate,
    generic: str = "generic",
    target: str = "target",
) -> Schedule:
    """Returns the reference recipe: target sequences spread evenly over one stage.

    In the two-stage algebra this is the tied point, alpha = delta and rho = 1 - gamma. Raises
    UserError, with both numbers, if there is more target than the run has sequences.
    """
    run = run_size(total_steps, batch_size, target_sequences, target_epochs)
    counts = ((generic, run.sequences - run.target), (target, run.target))
    stage = Stage(run.sequences, counts, learning_rate, "continue", name="uniform")
    requested = Requested("uniform", target_sequences, target_epochs)
    return Schedule(batch_size, (stage,), requested, generic, target)


def continual(
    *,
    batch_size: int,
    target_sequences: int,
    target_epochs: float,
    replay_fraction: float,
    learning_rate: LearningRate,
    generic: str = "generic",
    target: str = "target",
) -> Schedule:
    """Returns the protocol for a finished model: target and replay mixed evenly over one stage.

    Replay lengthens the run: it has target_sequences * target_epochs / (1 - rho) sequences, rounded
    to the nearest step that holds all target sequences (paper, 8B experiments). Raises UserError
    for a replay fraction outside [0, 1) or a size that is not whole.
    """
    if not 0 <= replay_fraction < 1:
        raise UserError(f"replay_fraction {replay_fraction} must lie in [0, 1)")
    drawn = nearest(target_sequences * target_epochs)
    steps = max(nearest(drawn / (1 - replay_fraction) / batch_size), -(-drawn // batch_size))
    schedule = uniform(
        total_steps=steps,
        batch_size=batch_size,
        target_sequences=target_sequences,
        target_epochs=target_epochs,
        learning_rate=learning_rate,
        generic=generic,
        target=target,
    )
    requested = Requested(
        "continual",
        target_sequences,
        target_epochs,
        replay_fraction=replay_fraction,
        stage2_allocation=1.0,
    )
    stages = tuple(dataclasses.replace(stage, name="whole run") for stage in schedule.stages)
    return dataclasses.replace(schedule, stages=stages, requested=requested)


def _placed(
    run: RunSize,
    stage2: Stage2Size,
    placement: str,
    aligned_replay_fraction: float | None,
    unit: int | None,
    asked: dict[str, float | None],
) -> tuple[Stage2Size, int]:
    """Stage 2, moved if it is tied, and the N2 at which the target data of stage 1 ends."""
    if placement == "aligned":
        return stage2, _longest_stage2(run, stage2, aligned_replay_fraction, unit, **asked)
    if placement != "paper" or aligned_replay_fraction is not None:
        raise UserError(
            f"placement {placement!r} with aligned_replay_fraction {aligned_replay_fraction}: "
            "give 'paper' without or 'aligned' with one"
        )
    if unit is None and is_tied(run, **asked):
        stage2 = tied_size(run, stage2)
    return stage2, stage2.sequences


def _longest_stage2(
    run: RunSize,
    stage2: Stage2Size,
    aligned_replay_fraction: float | None,
    unit: int | None,
    *,
    replay_fraction: float | None,
    stage2_steps: float | None,
    stage2_allocation: float | None,
) -> int:
    """N2 at `aligned_replay_fraction`: where the stage-1 target data of the whole group ends."""
    if aligned_replay_fraction is None or stage2_steps is not None:
        raise UserError(
            "placement 'aligned' needs replay_fraction, stage2_allocation and "
            "aligned_replay_fraction, the largest replay fraction of the group"
        )
    assert replay_fraction is not None and stage2_allocation is not None
    if not replay_fraction <= aligned_replay_fraction < 1:
        raise UserError(
            f"replay_fraction {replay_fraction} must not exceed aligned_replay_fraction "
            f"{aligned_replay_fraction}, which must be below 1"
        )
    if run.target == stage2.target:  # stage 1 is generic throughout, for every rho
        return stage2.sequences
    longest = stage2_length(stage2.target, replay_fraction=aligned_replay_fraction, unit=unit)
    check_fit(run, Stage2Size(stage2.target, longest))
    return longest


def _stages(
    run: RunSize,
    stage2: Stage2Size,
    longest: int,
    names: tuple[str, str],
    learning_rates: tuple[LearningRate, LearningRate | None],
    optimizer_starts: tuple[str, str],
    batch_sizes: tuple[int, ...],
) -> tuple[Stage, ...]:
    """The stages of these sizes, without the empty ones; the pairs are for stages 1 and 2."""
    head = run.sequences - longest
    parts = (
        ("stage 1", head, run.target - stage2.target, 0),
        ("stage 1, rest", longest - stage2.sequences, 0, 0),
        ("stage 2", stage2.sequences, stage2.target, 1),
    )
    stages: list[Stage] = []
    for name, sequences, of_target, number in parts:
        if sequences:
            counts = ((names[0], sequences - of_target), (names[1], of_target))
            rate = learning_rates[1] if number else None
            rate = rate if stages else learning_rates[0]
            start, size = optimizer_starts[number], own_size(batch_sizes[number], run.batch_size)
            stages.append(Stage(sequences, counts, rate, start, name=name, batch_size=size))
    return tuple(stages)
