"""Tables of what runs make of multiple-choice tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.advice.task_worth import MEASURES, score_curve
from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.statistics.equivalents import Equivalents, ratio
from replay_jax.analysis.study.selection import Records, shown_rows
from replay_jax.analysis.study.study import TargetStudy, replays
from replay_jax.analysis.study.task_scores import (
    TaskResult,
    accuracy_before,
    task_names,
    task_results,
)
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.words import NONE, between, number, times

RIGHT = "right"
_MEASURES = {"choice loss": "loss among choices", "accuracy": "accuracy"}


def task_tables(study: TargetStudy, records: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """A table for every task that all of a target's runs were scored on, and one of their worth."""
    own = [record for record in records if record["target"] == study.target]
    by_id: Records = {record["id"]: record for record in own}
    if not shown_rows(study):
        return ()
    names = task_names(own)
    worth = _worth_table(study, by_id, names) if names else None
    return (*(_table(study, by_id, n) for n in names), *(() if worth is None else (worth,)))


def _worth_table(study: TargetStudy, records: Records, tasks: Sequence[str]) -> Table | None:
    """What replay is worth by each task's scores, beside by target loss; None: nothing replays.

    A measure whose curve cannot be inverted has no column.
    """
    places = [
        (i, cell.baseline)
        for i, cell in enumerate(study.cells)
        if replays(cell) and cell.baseline is not None
        and any(cell is best for best, _ in shown_rows(study))
    ]  # fmt: skip
    curves = [score_curve(study, records, task, by) for task in tasks for by in MEASURES]
    told = [curve for curve in curves if curve.curve is not None]
    if not places or not told:
        return None
    several = len(tasks) > 1
    return Table(
        title="What replay is worth by task scores",
        columns=(
            Column("target tokens", RIGHT),
            Column("ρ", RIGHT),
            Column("α", RIGHT, drop=3),
            Column("by target loss", RIGHT),
            *(Column(f"by {f'{c.task}: ' * several}{_MEASURES[c.measure]}", RIGHT) for c in told),
        ),
        rows=tuple(
            Line(
                (
                    f"{study.cells[i].key.target_tokens:,}",
                    fraction_words(study.cells[i].key.replay_fraction),
                    f"{study.cells[i].key.allocation:g}",
                    times(_by_loss(study, i, against)),
                    *(times(curve.multiplier(i, against)) for curve in told),
                )
            )
            for i, against in places
        ),
        words="Times the target data against the baseline without replay, each score through the "
        "reference recipe's own. Intervals pair seeds; those by accuracy also count the items. "
        + " ".join(f"{c.task}: {c.problem}." for c in curves if c.curve is None),
        target=study.target,
    )


def _by_loss(study: TargetStudy, best: int, against: int) -> Interval | None:
    """The multiplier of the same two cells by target loss."""
    if study.curve is None or study.draws.log_equivalent is None:
        return None
    losses = np.array([cell.chosen.target_loss for cell in study.cells])
    observed = study.curve.law.log_equivalent(losses[None])[0]
    found = Equivalents(observed, study.draws.log_equivalent)
    return ratio(study.curve, found, best, against, level=study.level)


def _table(study: TargetStudy, records: Records, task: str) -> Table:
    cells = [cell for _, row in shown_rows(study) for cell in row]
    results = task_results(study, cells, records, task)
    before = accuracy_before(study, records, task)
    start = () if before is None else (Line(("before training", *[""] * 2, f"{100 * before:.1f} %",
                                             *[""] * 4)),)  # fmt: skip
    return Table(
        title=f"Task {task}: {results[0].items:,} items",
        columns=(
            Column("target tokens", RIGHT),
            Column("ρ", RIGHT),
            Column("α", RIGHT, drop=3),
            Column("accuracy", RIGHT),
            Column("change", RIGHT),
            Column("p", RIGHT, drop=2),
            Column("loss among choices", RIGHT, drop=1),
            Column("seeds", RIGHT, drop=4),
        ),
        rows=(*start, *(_line(result) for result in results)),
        words=_words(study, results),
        target=study.target,
    )


def _line(result: TaskResult) -> Line:
    key = result.cell.key
    change = between(_percent(result.change), "+.1f") if result.change is not None else NONE
    return Line(
        (
            f"{key.target_tokens:,}",
            fraction_words(key.replay_fraction),
            f"{key.allocation:g}",
            between(_percent(result.accuracy), ".1f"),
            "baseline" if result.cell.is_baseline else change.replace("-", "−"),
            number(result.p_value, ".2g"),
            f"{result.choice_loss:.4f}",
            str(result.seeds),
        )
    )


def _words(study: TargetStudy, results: Sequence[TaskResult]) -> str:
    words = (
        f"Per cent, with {100 * study.level:g} % intervals over items and seeds, at the setting "
        "with the lowest target loss. Change: against the baseline without replay, paired by seed "
        "and item. p: exact sign-flip test over the items, the seeds taken as they are. Loss among "
        "choices: nats per item, −log of the right choice's share of the choices' probability."
    )
    if any(result.seeds == 1 for result in results):
        words += " Where there is one seed, its chance is not in the interval."
    return words


def _percent(share: Interval) -> Interval:
    value, low, high = (
        None if end is None else 100 * end for end in (share.value, share.low, share.high)
    )
    return Interval(value, low, high)
