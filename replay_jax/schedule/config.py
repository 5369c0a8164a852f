"""What a config file may set about a schedule."""

from dataclasses import dataclass

from replay_jax.schedule.learning_rate import LearningRate

ARITHMETICS = ("exact", "authors")


@dataclass(frozen=True)
class StageConfig:
    """One stage of a freely written schedule, in shares.

    Attributes:
        steps: length in steps of `training.batch_size`; may be fractional where the next stage does
            not need a whole step.
        shares: (source, share at the start, share at the end) for each source; equal shares are
            constant, others ramp linearly. Starts and ends each sum to 1.
        learning_rate: the schedule that starts here, or None if the previous one goes on.
        optimizer_start: "continue" or "reset".
    """

    steps: float
    shares: tuple[tuple[str, float, float], ...]
    learning_rate: LearningRate | None
    optimizer_start: str


@dataclass(frozen=True)
class ScheduleConfig:
    """What a config file sets about the schedule.

    `protocols.build_schedule` says what goes together.

    Attributes:
        protocol: "two_stage", "fine_tuning", "uniform", "continual" or "stages".
        total_steps: length of the run in steps of `training.batch_size`, its optimizer updates
            unless `batch_sizes` says otherwise; None with protocol "continual", in which they
            follow from the target sequences and the replay fraction.
        target_sequences: unique target sequences (the budget); None for all of the source, with
            protocol "stages" only.
        target_epochs: how often each is seen; None with protocol "stages", which gives shares.
        replay_fraction: rho, generic share of stage 2 (of the whole run with "continual"), in
            [0, 1).
        stage2_steps: length of stage 2 in steps of `training.batch_size`.
        stage2_allocation: alpha, share of the target sequences in stage 2.
        placement: "paper" or "aligned" (see `two_stage`).
        aligned_replay_fraction: the largest rho of an aligned group.
        arithmetic: "exact", or "authors" for the rounding and the order of the paper's own code
            (see `authors.in_blocks`).
        learning_rate: schedule of the first (or only) span.
        stage2_learning_rate: schedule of stage 2, or None if the first goes on.
        stage2_optimizer: "continue" or "reset".
        stages: the stages of protocol "stages"; empty for the others.
        batch_sizes: sequences per update of each stage, in order; empty for `training.batch_size`
            in all. The rows that are drawn stay the same, updates become more or fewer.
    """

    protocol: str
    total_steps: int | None
    target_sequences: int | None
    target_epochs: float | None
    replay_fraction: float | None
    stage2_steps: float | None
    stage2_allocation: float | None
    placement: str
    aligned_replay_fraction: float | None
    arithmetic: str
    learning_rate: LearningRate
    stage2_learning_rate: LearningRate | None
    stage2_optimizer: str
    stages: tuple[StageConfig, ...]
    batch_sizes: tuple[int, ...]
