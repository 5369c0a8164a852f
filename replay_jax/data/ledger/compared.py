"""Realised against planned: the ledger of consumed batches, and the proof of every row."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from replay_jax.data.ledger.counted import CHAIN_START, Count, Span, chained, source_tags
from replay_jax.data.ledger.planned import Entry, Ledger, StageEntries
from replay_jax.data.reading.views import SourceView, view_rows
from replay_jax.schedule.mixture import StepDraws, draw_numbers, step_draws
from replay_jax.schedule.stages import Schedule, realised_values
from replay_jax.schedule.steps import Steps


def realised_ledger(
    spans: Sequence[Span], schedule: Schedule, views: Mapping[str, SourceView]
) -> Ledger:
    """Returns the ledger of what the spans of a run, of all its edges and hosts, consumed.

    A stage appears if no counted interval reaches over its ends (see `RealisedCounter`'s cuts).
    Different rows are known for sources with a budget only; for the others `check_spans` proves
    every single row. Raises ValueError unless the spans cover each step of the run exactly once.
    """
    _check_cover(spans, schedule)
    counts = [count for span in spans for count in span.counts]
    stages = []
    for number, (start, stage) in enumerate(
        zip(schedule.stage_starts, schedule.stages, strict=True), 1
    ):
        stop = start + stage.sequences
        inside = [count for count in counts if count.start < stop and count.stop > start]
        if all(start <= count.start and count.stop <= stop for count in inside):
            entries = tuple(_entry(name, inside, views[name]) for name in schedule.source_names)
            name = stage.name or f"stage {number}"
            stages.append(StageEntries(name, start, stage.sequences, entries, stage.batch_size))
    by_name = [{entry.source: entry.sequences for entry in stage.entries} for stage in stages]
    whole = len(stages) == len(schedule.stages)
    return Ledger(
        batch_size=schedule.batch_size,
        total_steps=schedule.total_steps,
        stages=tuple(stages),
        totals=tuple(_entry(name, counts, views[name]) for name in schedule.source_names),
        requested=schedule.requested,
        realised=realised_values(
            [
                (
                    sum(drawn.values()),
                    sum(drawn[name] for name in schedule.generics),
                    drawn[schedule.target],
                )
                for drawn in by_name
            ],
            batch_size=schedule.batch_size,
            target_sequences=schedule.requested.target_sequences,
        )
        if whole
        else None,
    )


def compare(planned: Ledger, realised: Ledger) -> list[str]:
    """Returns every difference between two ledgers in words; none means that they agree.

    A value that one side does not know is not compared; a stage that was not counted apart is
    not either, so check `realised.stages` where that matters.
    """
    differences = []
    for name in ("batch_size", "total_steps", "requested", "realised"):
        left, right = getattr(planned, name), getattr(realised, name)
        if left is not None and right is not None and left != right:
            differences.append(f"{name.replace('_', ' ')}: planned {left}, realised {right}")
    counted = {(stage.name, stage.first_sequence): stage for stage in realised.stages}
    for stage in planned.stages:
        other = counted.pop((stage.name, stage.first_sequence), None)
        if other is not None:
            differences += _entry_differences(stage.name, stage.entries, other.entries)
    differences += [f"{name} was realised but not planned" for name, _ in counted]
    return differences + _entry_differences("whole run", planned.totals, realised.totals)


def _entry_differences(
    where: str, planned: tuple[Entry, ...], realised: tuple[Entry, ...]
) -> list[str]:
    differences = []
    others = {entry.source: entry for entry in realised}
    for entry in planned:
        other = others.pop(entry.source, None)
        if other is None:
            differences.append(f"{where}, {entry.source}: planned but not realised")
            continue
        for item in dataclasses.fields(Entry):
            left, right = getattr(entry, item.name), getattr(other, item.name)
            if left is not None and right is not None and left != right:
                label = item.name.replace("_", " ")
                differences.append(
                    f"{where}, {entry.source}: planned {label} {left}, realised {right}"
                )
    return differences + [f"{where}, {name}: realised but not planned" for name in others]


def check_spans(
    spans: Sequence[Span], schedule: Schedule, views: Mapping[str, SourceView]
) -> list[str]:
    """Returns the spans whose rows are not those of the plan, in words; none means all are.

    Recomputes every row of every step from the schedule and the views, once for all hosts. Raises
    ValueError for a span of another batch size.
    """
    differences, draws = [], step_draws(schedule)
    tags = source_tags(schedule.source_names, views)
    ranges: dict[tuple[int, int], list[Span]] = {}
    for span in spans:
        check_size(span, draws.steps)
        ranges.setdefault((span.start_step, span.stop_step), []).append(span)
    for (start, stop), hosts in ranges.items():
        source, row = planned_rows(draws, schedule.source_names, views, start=start, stop=stop)
        for span in hosts:
            chosen = span.rows_of_batch()
            digest = _digest(tags[source[:, chosen]], row[:, chosen])
            if digest != span.digest:
                blocks = ", ".join(f"{first} to {last - 1}" for first, last in span.batch_rows)
                differences.append(
                    f"steps {start} to {stop - 1}, rows {blocks} of each batch: the rows consumed "
                    f"(digest {span.digest}) are not those planned ({digest})"
                )
    return differences


def planned_rows(
    draws: StepDraws,
    source_names: Sequence[str],
    views: Mapping[str, SourceView],
    *,
    start: int,
    stop: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (source numbers uint8, rows int64), each [steps, B], for the steps [start, stop).

    They are of one batch size.
    """
    pattern = draws.patterns(start, stop)
    if not pattern.size:
        return pattern, np.zeros(pattern.shape, np.int64)
    positions = pattern.reshape(-1)
    numbers = draw_numbers(positions, first=draws.first[start])
    rows = np.empty(len(positions), np.int64)
    for source, name in enumerate(source_names):
        chosen = np.flatnonzero(positions == source)
        rows[chosen] = view_rows(views[name], numbers[chosen])
    return pattern, rows.reshape(pattern.shape)


def check_size(span: Span, steps: Steps) -> None:
    """Raises ValueError unless all steps of a span are planned with the batch that was counted."""
    for step in (span.start_step, span.stop_step - 1):
        if span.start_step < span.stop_step and steps.size(step) != span.batch_size:
            raise ValueError(
                f"counted with a batch of {span.batch_size}, planned with {steps.size(step)}"
            )
    if any(span.start_step < step < span.stop_step for step in steps.changes):
        raise ValueError(
            f"steps {span.start_step} to {span.stop_step - 1} were counted together, but are of "
            "different batch sizes"
        )


def _digest(tags: np.ndarray, rows: np.ndarray) -> str:
    """The chain over consecutive steps, from their tags and rows [steps, rows]."""
    chain = CHAIN_START
    for step_tags, step_rows in zip(tags, rows, strict=True):
        chain = chained(chain, step_tags, step_rows)
    return chain.hex()


def _check_cover(spans: Sequence[Span], schedule: Schedule) -> None:
    """Raises ValueError unless the spans cover every step once, with all hosts of each."""
    hosts: dict[tuple[int, int], list[tuple[int, int]]] = {}
    steps = schedule.steps
    for span in spans:
        check_size(span, steps)
        strangers = {count.source for count in span.counts} - set(schedule.source_names)
        if strangers:
            raise ValueError(
                f"counted rows of {', '.join(sorted(strangers))}, which the schedule does not draw"
            )
        hosts.setdefault((span.start_step, span.stop_step), []).extend(span.batch_rows)
    covered = 0
    for (start, stop), blocks in sorted(hosts.items()):
        ends = [0, *(end for block in sorted(blocks) for end in block), steps.size(start)]
        if start != covered or ends[::2] != ends[1::2]:
            break
        covered = stop
    else:
        if covered == schedule.total_steps:
            return
    raise ValueError(
        f"the counts of {len(spans)} spans cover steps up to {covered} once, not each of the "
        f"{schedule.total_steps} steps of the run"
    )


def _supervised(counts: Sequence[Count]) -> int | None:
    """Labels that counted in the loss; None where that was not counted, or nothing was drawn."""
    known = [count.supervised for count in counts if count.supervised is not None]
    return sum(known) if counts and len(known) == len(counts) else None


def _entry(name: str, counts: Sequence[Count], view: SourceView) -> Entry:
    """The entry of one source from the counts of an interval."""
    ours = [count for count in counts if count.source == name]
    sequences = sum(count.sequences for count in ours)
    unique = None
    if view.budget_rows is not None:
        unique = len({row for count in ours for row, _ in count.rows or ()})
    return Entry(
        source=name,
        sequences=sequences,
        tokens=sequences * view.seq_len,
        unique=unique,
        repeated=None if unique is None else sequences - unique,
        epochs=None if view.rows is None else sequences / view.rows,
        first_row=min(count.first for count in ours)[1] if ours else None,
        last_row=max(count.last for count in ours)[1] if ours else None,
        supervised=_supervised(ours),
    )
