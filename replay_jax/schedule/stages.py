"""A run as a list of stages with exact integer counts per source: what is drawn, and when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate, rates_at
from replay_jax.schedule.steps import Steps, steps_of

OPTIMIZER_STARTS = ("continue", "reset")


def nearest(value: float | Fraction) -> int:
    """Rounds to the nearest integer, halves up."""
    return math.floor(Fraction(value) + Fraction(1, 2))


def apportion(total: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Splits `total` sequences by `shares`: the only place where shares become counts.

    Largest-remainder rounding (Hamilton): every count is its exact quota rounded down or up, and
    the counts sum to `total`; equal remainders go to the later share, which is target data in the
    two-source schedules. Quotas are exact fractions of the floats. Raises UserError if a share
    is negative or none is positive.
    """
    if total < 0 or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise UserError(f"cannot split {total} sequences by the shares {tuple(shares)}")
    exact = [Fraction(share) for share in shares]
    quotas = [total * share / sum(exact) for share in exact]
    counts = [math.floor(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (quotas[i] - counts[i], i))
    for i in by_remainder[len(quotas) - (total - sum(counts)) :]:
        counts[i] += 1
    return tuple(counts)


@dataclass(frozen=True)
class Stage:
    """A span of training with one rule for which source comes next.

    Attributes:
        sequences: length of the stage in sequences; a stage may end inside a batch unless the
            next one starts a learning-rate schedule or resets the optimizer.
        counts: exact sequences per source; they sum to `sequences`.
        learning_rate: the schedule that starts here, or None if the previous one goes on.
        optimizer_start: "continue", or "reset" for fresh moments and step count.
        ramp: (source, share at the start, share at the end) of a linear ramp; empty if the
            shares are constant. The counts are the shares' means, rounded.
        name: what tables call the stage; empty for its number.
        batch_size: sequences of each of its steps; None for those of the schedule.
    """

    sequences: int
    counts: tuple[tuple[str, int], ...]
    learning_rate: LearningRate | None
    optimizer_start: str
    ramp: tuple[tuple[str, float, float], ...] = ()
    name: str = ""
    batch_size: int | None = None

    def __post_init__(self) -> None:
        label = self.name or "stage"
        if self.sequences < 1:
            raise UserError(f"{label} has {self.sequences} sequences; it needs at least one")
        names = [name for name, _ in self.counts]
        if len(set(names)) != len(names):
            raise UserError(f"{label} names a source twice: {', '.join(names)}")
        if any(count < 0 for _, count in self.counts):
            raise UserError(f"{label} has a negative count: {dict(self.counts)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"{label} has batch size {self.batch_size}; it must be at least 1")
        total = sum(count for _, count in self.counts)
        if total != self.sequences:
            raise UserError(f"the counts of {label} sum to {total}, not to {self.sequences}")
        if self.optimizer_start not in OPTIMIZER_STARTS:
            raise UserError(
                f"optimizer_start {self.optimizer_start!r} is not one of "
                f"{', '.join(OPTIMIZER_STARTS)}"
            )
        if self.ramp:
            self._check_ramp(label)

    def _check_ramp(self, label: str) -> None:
        counts = dict(self.counts)
        if {name for name, _, _ in self.ramp} != set(counts) or len(self.ramp) != len(counts):
            raise UserError(f"the ramp of {label} must name each of its sources once")
        for which, shares in (
            ("starts", [start for _, start, _ in self.ramp]),
            ("ends", [end for _, _, end in self.ramp]),
        ):
            if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
                raise UserError(f"the ramp of {label} {which} with shares {shares}, not with 1")
        for name, start, end in self.ramp:
            quota = self.sequences * (start + end) / 2
            if abs(counts[name] - quota) > 1 + 1e-6:
                raise UserError(
                    f"the ramp of {label} gives {name} {quota:g} sequences, not {counts[name]}"
                )

    def count(self, source: str) -> int:
        """Sequences of one source in this stage; 0 for a source that it does not use."""
        return dict(self.counts).get(source, 0)


@dataclass(frozen=True)
class Requested:
    """What the user asked for, before anything was rounded; None where nothing was asked.

    Attributes:
        protocol: "two_stage", "fine_tuning", "uniform" or "stages".
        target_sequences: unique target sequences (the budget).
        target_epochs: how often each is seen.
        replay_fraction: generic share of the last stage (the paper's rho).
        stage2_steps: length of the last stage in steps.
        stage2_allocation: share of the target sequences in the last stage (alpha).
        placement: "paper" or "aligned".
        aligned_replay_fraction: the largest replay fraction that shares stage 1.
    """

    protocol: str
    target_sequences: int | None = None
    target_epochs: float | None = None
    replay_fraction: float | None = None
    stage2_steps: float | None = None
    stage2_allocation: float | None = None
    placement: str = "paper"
    aligned_replay_fraction: float | None = None


@dataclass(frozen=True)
class Realised:
    """What the integer counts really give (the symbols are those of the paper, section 2).

    Attributes:
        replay_fraction: rho, generic share of the last stage.
        stage2_allocation: alpha, share of the target sequences in the last stage.
        stage2_duration: delta, last stage over the whole run.
        target_fraction: gamma, target sequences over all sequences.
        stage1_target_share: w1, target share before the last stage; None if there is none.
        target_epochs: target sequences over the budget; None without a stated budget.
        stage2_steps: length of the last stage in steps of the schedule; not always whole.
    """

    replay_fraction: float
    stage2_allocation: float
    stage2_duration: float
    target_fraction: float
    stage1_target_share: float | None
    target_epochs: float | None
    stage2_steps: float


def realised_values(
    stages: Sequence[tuple[int, int, int]], *, batch_size: int, target_sequences: int | None
) -> Realised:
    """The paper's symbols from (all, generic, target) sequences per stage; the last is stage 2.

    `target_sequences` is the budget, or None for a run without one.
    """
    sequences, generic2, target2 = stages[-1]
    total, target = sum(stage[0] for stage in stages), sum(stage[2] for stage in stages)
    before = total - sequences
    return Realised(
        replay_fraction=generic2 / sequences,
        stage2_allocation=target2 / target if target else 0.0,
        stage2_duration=sequences / total,
        target_fraction=target / total,
        stage1_target_share=(target - target2) / before if before else None,
        target_epochs=target / target_sequences if target_sequences else None,
        stage2_steps=sequences / batch_size,
    )


@dataclass(frozen=True)
class Schedule:
    """The whole data and learning-rate plan of a run, in integers.

    Sources are numbered as in `source_names`: generic 0, target 1, then any others in the order
    of their first appearance. Where the generic data is a mixture, `generic` is only its name:
    `generic_shares` has its sources and their shares in whole numbers, of which the first is
    number 0 (`generic.with_generic_sources`).

    `batch_size` is of every stage without one of its own, and what lengths in steps are told in.

    Raises UserError if the stages do not fill whole steps, if the first stage has no learning
    rate, or if a stage that resets the optimizer, starts a learning rate or has another batch size
    begins inside a batch.
    """

    batch_size: int
    stages: tuple[Stage, ...]
    requested: Requested
    generic: str = "generic"
    target: str = "target"
    generic_shares: tuple[tuple[str, int], ...] = ()
    source_names: tuple[str, ...] = field(init=False)
    stage_starts: tuple[int, ...] = field(init=False)
    total_sequences: int = field(init=False)
    steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch size {self.batch_size} must be at least 1")
        if not self.stages:
            raise UserError("a schedule needs at least one stage")
        if self.generic == self.target:
            raise UserError(f"the generic and the target source are both {self.generic!r}")
        names = dict.fromkeys((self.generics[0], self.target, *self.generics[1:]))
        names.update((name, None) for stage in self.stages for name, _ in stage.counts)
        starts = np.cumsum([0] + [stage.sequences for stage in self.stages]).tolist()
        object.__setattr__(self, "source_names", tuple(names))
        object.__setattr__(self, "stage_starts", tuple(starts[:-1]))
        object.__setattr__(self, "total_sequences", starts[-1])
        if len(names) > 256:
            raise UserError(f"a schedule can mix at most 256 sources, not {len(names)}")
        spans = [(stage.sequences, stage.batch_size or self.batch_size) for stage in self.stages]
        object.__setattr__(self, "steps", steps_of(spans))
        if self.stages[0].learning_rate is None:
            raise UserError("the first stage needs a learning rate")
        for number, (start, stage) in enumerate(zip(starts[:-1], self.stages, strict=True), 1):
            whole = stage.learning_rate is not None or stage.optimizer_start == "reset"
            if whole and not self.steps.begins(start):
                size = self.steps.size(self.steps.step_of(start))
                raise UserError(
                    f"stage {number} starts a learning rate or resets the optimizer and so must "
                    f"start with a whole step, not at sequence {start} (batch {size})"
                )

    @property
    def generics(self) -> tuple[str, ...]:
        """The sources of the generic data."""
        return tuple(name for name, _ in self.generic_weights)

    @property
    def generic_weights(self) -> tuple[tuple[str, int], ...]:
        """The sources of the generic data and their shares in whole numbers; 1 for a single one."""
        return self.generic_shares or ((self.generic, 1),)

    @property
    def total_steps(self) -> int:
        """Optimizer updates in the whole run."""
        return self.steps.total

    def sequences(self, source: str) -> int:
        """Sequences of one source in the whole run."""
        return sum(stage.count(source) for stage in self.stages)

    def learning_rates(self) -> np.ndarray:
        """Returns float32 [total_steps]: the rate that each step uses.

        A learning rate runs by the sequences that were drawn since it started, in steps of the
        size that it started with: other batch sizes later on change no rate before them.
        """
        starts = [
            (start, stage.learning_rate)
            for start, stage in zip(self.stage_starts, self.stages, strict=True)
            if stage.learning_rate is not None
        ]
        ends = [start for start, _ in starts[1:]] + [self.total_sequences]
        firsts = self.steps.firsts()
        found = []
        for (start, rate), end in zip(starts, ends, strict=True):
            low, high = self.steps.step_of(start), self.steps.step_of(end)
            unit = self.steps.size(low)
            found.append(rates_at(rate, (firsts[low:high] - start) / unit, (end - start) / unit))
        return np.concatenate(found)

    def resets(self) -> np.ndarray:
        """Returns bool [total_steps]: whether the optimizer is made fresh before a step.

        Step 0 is never marked: the optimizer is fresh there in any case.
        """
        marks = np.zeros(self.total_steps, bool)
        for start, stage in zip(self.stage_starts, self.stages, strict=True):
            if stage.optimizer_start == "reset" and start > 0:
                marks[self.steps.step_of(start)] = True
        return marks

    def realised(self) -> Realised:
        """What the counts give in the paper's symbols."""
        return realised_values(
            [
                (
                    stage.sequences,
                    sum(stage.count(name) for name in self.generics),
                    stage.count(self.target),
                )
                for stage in self.stages
            ],
            batch_size=self.batch_size,
            target_sequences=self.requested.target_sequences,
        )
