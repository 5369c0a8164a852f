"""The paper's schedules: two stages, fine-tuning and uniform mixing."""

from replay_jax.data.learning_rate import LearningRate
from replay_jax.data.sizes import (
    RunSize,
    Stage2Size,
    check_fit,
    run_size,
    stage2_length,
    stage2_size,
    tied_size,
)
from replay_jax.data.stages import Requested, Schedule, Stage
from replay_jax.errors import UserError


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
    generic: str = "generic",
    target: str = "target",
) -> Schedule:
    """Returns the schedule with target data rare in stage 1 and dense in stage 2.

    Exactly two of `replay_fraction` (rho, in [0, 1)), `stage2_steps` (may be fractional) and
    `stage2_allocation` (alpha, in [0, 1]) are given and imply the third. With a
    `stage2_learning_rate` or `stage2_optimizer="reset"` the boundary is a whole step; otherwise
    it may lie inside a batch.

    `placement="paper"` spreads the stage-1 target sequences evenly over stage 1, so their
    positions depend on rho. `placement="aligned"` spreads them over the stage 1 that
    `aligned_replay_fraction` would leave and fills the rest of stage 1 with generic rows, so all
    runs that differ only in rho <= `aligned_replay_fraction` begin identically.

    At the tied point (alpha = delta, rho = 1 - gamma) a boundary inside the run makes no
    difference, and the rows are exactly those of `uniform`: the boundary is moved to the nearest
    place where both stages hold whole numbers of target sequences at the share gamma, or dropped
    where there is none. With a whole-step boundary this holds only as far as rounding allows.

    Raises UserError, with both numbers, for a request that no integers can meet.
    """
    run = run_size(total_steps, batch_size, target_sequences, target_epochs)
    whole_steps = stage2_learning_rate is not None or stage2_optimizer == "reset"
    stage2 = stage2_size(run, replay_fraction, stage2_steps, stage2_allocation, whole_steps)
    tied = abs(stage2.target * run.sequences - run.target * stage2.sequences) * 2 < run.sequences
    if placement == "paper" and tied and not whole_steps:
        stage2 = tied_size(run, stage2)
    head = _aligned_head(
        run, stage2, placement, replay_fraction, stage2_allocation, aligned_replay_fraction,
        whole_steps,
    )  # fmt: skip
    requested = Requested(
        protocol="two_stage",
        target_sequences=target_sequences,
        target_epochs=target_epochs,
        replay_fraction=replay_fraction,
        stage2_steps=stage2_steps,
        stage2_allocation=stage2_allocation,
        placement=placement,
        aligned_replay_fraction=aligned_replay_fraction,
    )
    return Schedule(
        batch_size=batch_size,
        stages=_stages(
            run, stage2, head, learning_rate, stage2_learning_rate, stage2_optimizer,
            generic, target,
        ),
        requested=requested,
        generic=generic,
        target=target,
    )  # fmt: skip


def fine_tuning(
    *,
    total_steps: int,
    batch_size: int,
    target_sequences: int,
    target_epochs: float,
    replay_fraction: float,
    learning_rate: LearningRate,
    stage2_learning_rate: LearningRate,
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
    run = run_size(total_steps, batch_size, target_sequences, target_epochs)
    stage2 = stage2_size(run, replay_fraction, None, 1.0, True)
    if stage2.sequences >= run.sequences:
        raise UserError(
            f"fine-tuning takes {stage2.sequences // batch_size} steps of {total_steps}; "
            "none is left for pre-training, so lower replay_fraction or target_epochs"
        )
    requested = Requested(
        protocol="fine_tuning",
        target_sequences=target_sequences,
        target_epochs=target_epochs,
        replay_fraction=replay_fraction,
        stage2_allocation=1.0,
    )
    return Schedule(
        batch_size=batch_size,
        stages=_stages(
            run, stage2, run.sequences - stage2.sequences, learning_rate, stage2_learning_rate,
            "reset", generic, target,
        ),
        requested=requested,
        generic=generic,
        target=target,
    )  # fmt: skip


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
    return Schedule(
        batch_size=batch_size,
        stages=(Stage(run.sequences, counts, learning_rate, "continue", name="uniform"),),
        requested=Requested("uniform", target_sequences, target_epochs),
        generic=generic,
        target=target,
    )


def _aligned_head(
    run: RunSize,
    stage2: Stage2Size,
    placement: str,
    replay_fraction: float | None,
    allocation: float | None,
    aligned_replay_fraction: float | None,
    whole_steps: bool,
) -> int:
    """Sequences at the start of the run that hold the stage-1 target data."""
    stage1 = run.sequences - stage2.sequences
    if placement == "paper":
        if aligned_replay_fraction is not None:
            raise UserError(
                f"aligned_replay_fraction {aligned_replay_fraction} needs placement 'aligned'"
            )
        return stage1
    if placement != "aligned":
        raise UserError(f"placement {placement!r} is not 'paper' or 'aligned'")
    if aligned_replay_fraction is None or replay_fraction is None or allocation is None:
        raise UserError(
            "placement 'aligned' needs replay_fraction, stage2_allocation and "
            "aligned_replay_fraction, the largest replay fraction of the group"
        )
    if not replay_fraction <= aligned_replay_fraction < 1:
        raise UserError(
            f"replay_fraction {replay_fraction} must not exceed aligned_replay_fraction "
            f"{aligned_replay_fraction}, which must be below 1"
        )
    longest = Stage2Size(
        stage2.target, stage2_length(run, stage2.target, aligned_replay_fraction, whole_steps)
    )
    check_fit(run, longest)
    return run.sequences - longest.sequences if run.target > stage2.target else stage1


def _stages(
    run: RunSize,
    stage2: Stage2Size,
    head: int,
    learning_rate: LearningRate,
    stage2_learning_rate: LearningRate | None,
    stage2_optimizer: str,
    generic: str,
    target: str,
) -> tuple[Stage, ...]:
    """Puts the sizes into stages; empty ones are left out."""
    stage1 = run.sequences - stage2.sequences
    in_stage1 = run.target - stage2.target
    if not stage1 and stage2_learning_rate is not None:
        raise UserError(
            f"stage 2 takes all {run.total_steps} steps, so stage 1 has no use for its own "
            "learning rate; leave stage2_learning_rate out"
        )
    parts = [
        ("stage 1", head, in_stage1, learning_rate, "continue"),
        ("stage 1, rest", stage1 - head, 0, None, "continue"),
        ("stage 2", stage2.sequences, stage2.target, stage2_learning_rate, stage2_optimizer),
    ]
    stages: list[Stage] = []
    for name, sequences, of_target, rate, start in parts:
        if sequences:
            counts = ((generic, sequences - of_target), (target, of_target))
            first = learning_rate if not stages else rate
            stages.append(Stage(sequences, counts, first, start, name=name))
    return tuple(stages)
