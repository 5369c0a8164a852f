"""Which source each sequence of a run comes from, and which of the source's draws it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from replay_jax.errors import UserError
from replay_jax.schedule.generic import as_one_generic, earliest_deadlines, generic_order
from replay_jax.schedule.stages import Schedule, Stage
from replay_jax.schedule.steps import Steps

_LONGEST_STAGE = 1 << 31  # keeps the products of two sequence counts inside 63 bits


def source_positions(schedule: Schedule) -> np.ndarray:
    """Returns uint8 [total_sequences]: the number of the source of every sequence of the run.

    Within each stage every source keeps its share: after any number of sequences it has been
    drawn within one row of its exact quota (half a row with two sources), also while shares ramp;
    the quota is that of the stage's integer counts. The pattern is periodic where the counts are,
    starts afresh with each stage, and uses no random numbers. Takes about 2 ms per million
    sequences with two sources of constant share, 1 s with three or more (2 shared CPU cores,
    2026-11-23). A mixture of generic sources counts as one source here, whose rows then come from
    its sources in their own order.
    """
    if schedule.generic_shares:
        return _mixture_positions(schedule)
    positions = np.empty(schedule.total_sequences, np.uint8)
    for start, stage in zip(schedule.stage_starts, schedule.stages, strict=True):
        positions[start : start + stage.sequences] = _stage_positions(stage, schedule.source_names)
    return positions


def _mixture_positions(schedule: Schedule) -> np.ndarray:
    is_target = source_positions(as_one_generic(schedule)).view(bool)
    numbers = {name: number for number, name in enumerate(schedule.source_names)}
    positions = np.full(len(is_target), numbers[schedule.target], np.uint8)
    order = generic_order(
        [share for _, share in schedule.generic_shares], int(np.count_nonzero(~is_target))
    )
    positions[~is_target] = np.array([numbers[n] for n in schedule.generics], np.uint8)[order]
    return positions


def _stage_positions(stage: Stage, source_names: tuple[str, ...]) -> np.ndarray:
    if stage.sequences >= _LONGEST_STAGE:
        raise UserError(
            f"a stage of {stage.sequences} sequences is too long; split it below {_LONGEST_STAGE}"
        )
    active = [number for number, name in enumerate(source_names) if stage.count(name)]
    if len(active) == 1:
        return np.full(stage.sequences, active[0], np.uint8)
    names = [source_names[number] for number in active]
    if len(active) > 2:
        return np.array(active, np.uint8)[_earliest_deadline(stage_quotas(stage, names))]
    if stage.ramp:
        second = _rounded_ramp(stage_quotas(stage, names)[1])
    else:
        second = _spread(stage.count(names[1]), stage.sequences)
    # Byte arithmetic: np.where took fifty times as long (5 ms for a million sequences).
    return second.view(np.uint8) * np.uint8(active[1] - active[0]) + np.uint8(active[0])


def _spread(count: int, total: int) -> np.ndarray:
    """Returns bool [total] with `count` places evenly marked.

    After k places exactly floor(k count / total + 1/2) are marked, in integers. The places are
    computed for the rarer side, so sparse data costs no time.
    """
    if 2 * count <= total:
        rank = 2 * np.arange(count, dtype=np.int64) + 1
        marked = np.zeros(total, bool)
        marked[-(-total * rank // (2 * count)) - 1] = True
        return marked
    rank = 2 * np.arange(total - count, dtype=np.int64) + 1
    marked = np.ones(total, bool)
    marked[total * rank // (2 * (total - count))] = False
    return marked


def stage_quotas(stage: Stage, names: Sequence[str]) -> np.ndarray:
    """Returns float64 [names, sequences + 1]: exact share of each source after k sequences.

    Never falls, ends at the stage's counts, and sums to k over all sources of the stage. Constant
    shares give `F(k) = k C/N` with C the count; a ramp passes through the same end with slope s,
    `F(k) = k C/N - s k (N - k) / 2N`.
    """
    total = stage.sequences
    drawn = np.arange(total + 1, dtype=np.float64)
    counts = np.array([stage.count(name) for name in names], np.float64)
    quotas = counts[:, None] / total * drawn
    quotas[:, -1] = counts
    if stage.ramp:
        slopes = _slopes(stage)
        bend = drawn * (total - drawn) / (2 * total)
        quotas -= np.array([slopes[name] for name in names])[:, None] * bend
    return quotas


def _slopes(stage: Stage) -> dict[str, float]:
    """Share at the end minus share at the start of each source, summing to 0.

    The slopes are those asked for, except that rounded counts may leave no room for them: a slope
    is clipped where its share would fall below 0 (and so is that of a source that rounds to no
    rows), and then the rising or the falling ones, whichever are more, are scaled to match the
    others. Each changes by the order of 1/N, which moves about a row.
    """
    means = np.array([stage.count(name) / stage.sequences for name, _, _ in stage.ramp])
    slopes = np.array([end - start for _, start, end in stage.ramp])
    slopes = np.clip(slopes, -2 * means, 2 * means)
    rising, falling = slopes[slopes > 0].sum(), -slopes[slopes < 0].sum()
    balance = min(rising, falling)
    slopes[slopes > 0] *= balance / rising if rising else 0.0
    slopes[slopes < 0] *= balance / falling if falling else 0.0
    return {name: float(slope) for (name, _, _), slope in zip(stage.ramp, slopes, strict=True)}


def _rounded_ramp(quota: np.ndarray) -> np.ndarray:
    """Returns bool [sequences]: where the nearest integer to the quota of two sources rises."""
    drawn = np.floor(quota + 0.5).astype(np.int64)
    # Shares lie in [0, 1], so these change nothing but the last bit of a float at 0 or 1.
    drawn = np.maximum.accumulate(drawn)
    places = np.arange(len(drawn))
    drawn = places - np.maximum.accumulate(places - drawn)
    return np.diff(drawn) > 0


def _earliest_deadline(quotas: np.ndarray) -> np.ndarray:
    """Returns uint8 [sequences]: the source of each place, for any number of sources.

    Row j of a source with quota F may be placed once F(k) > j and must be placed by the first k
    with F(k) >= j + 1; both kept, the source never strays a whole row from F. Of the rows that may
    be placed, the one with the earliest deadline is. That meets every deadline: by Hall's theorem
    some order of unit jobs with whole release times and deadlines does unless the rows that must
    lie within some places s+1 .. e outnumber them, but source i has at most
    floor(F_i(e)) - ceil(F_i(s)) <= F_i(e) - F_i(s) of those and the quotas sum to e - s; and the
    earliest-deadline order meets all deadlines whenever any order does. No place stays empty,
    because before place k the quotas exceed the rows drawn by one in sum.
    """
    sources, total = len(quotas), quotas.shape[1] - 1
    # Floats stand for exact quotas: whole numbers are whole although the last bit may differ.
    near = np.maximum.accumulate(np.where(
        np.abs(quotas - np.rint(quotas)) < 1e-7, np.rint(quotas), quotas
    ), axis=1)  # fmt: skip
    jobs = []
    for source in range(sources):
        rank = np.arange(int(near[source, -1]))
        release = np.searchsorted(near[source], rank, side="right")
        jobs.append((release, np.searchsorted(near[source], rank + 1, side="left")))
    return earliest_deadlines(jobs, total)


@dataclass(frozen=True)
class StepDraws:
    """What every step of a run draws; with the views' digests it decides the run's batches.

    Attributes:
        first: int64 [steps, sources], the first draw of each source in the step.
        count: int64 [steps, sources], its draws in the step.
        positions: uint8 [sequences], the source number of every sequence of the run.
        steps: which of them each step takes.
    """

    first: np.ndarray
    count: np.ndarray
    positions: np.ndarray
    steps: Steps

    def pattern(self, step: int) -> np.ndarray:
        """Returns uint8 [batch]: the source number of each sequence of a step."""
        first = self.steps.first_sequence(step)
        return self.positions[first : first + self.steps.size(step)]

    def patterns(self, start: int, stop: int) -> np.ndarray:
        """Returns uint8 [steps, batch]: the patterns of steps of one size, from start to stop."""
        first, end = (self.steps.first_sequence(step) for step in (start, stop))
        return self.positions[first:end].reshape(-1, self.steps.size(start))


def step_draws(schedule: Schedule) -> StepDraws:
    """Returns per step and source the first draw and the number of draws, and all patterns."""
    positions, steps = source_positions(schedule), schedule.steps
    sources = len(schedule.source_names)
    count = np.empty((steps.total, sources), np.int64)
    for (start, stop), size in zip(steps.blocks(), steps.sizes, strict=True):
        first, end = (steps.first_sequence(step) for step in (start, stop))
        pattern, block = positions[first:end].reshape(-1, size), count[start:stop]
        for source in range(1, sources):
            block[:, source] = (pattern == source).view(np.uint8).sum(axis=1, dtype=np.uint32)
        block[:, 0] = size - block[:, 1:].sum(axis=1)
    first_draws = np.cumsum(count, axis=0) - count
    return StepDraws(first=first_draws, count=count, positions=positions, steps=steps)


def draw_numbers(positions: np.ndarray, *, first: np.ndarray) -> np.ndarray:
    """Returns int64 [sequences]: which draw of its source each sequence is.

    `positions` holds the source numbers of consecutive sequences and `first` [sources] the draws
    made before them, as in one row of `StepDraws.first`.
    """
    draws = np.empty(len(positions), np.int64)
    for source, start in enumerate(first.tolist()):
        chosen = np.flatnonzero(positions == source)
        draws[chosen] = np.arange(start, start + len(chosen))
    return draws
