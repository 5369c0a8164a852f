"""Tables of what runs make of multiple-choice tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.selection import Records, shown_rows
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.analysis.study.task_scores import (
    TaskResult,
    accuracy_before,
    task_names,
    task_results,
)
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.words import NONE, between, number

RIGHT = "right"


def task_tables(study: TargetStudy, records: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """A table for every task that all of a target's runs were scored on."""
    own = [record for record in records if record["target"] == study.target]
    by_id: Records = {record["id"]: record for record in own}
    if not shown_rows(study):
        return ()
    return tuple(_table(study, by_id, task) for task in task_names(own))


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
            f"{key.replay_fraction:g}",
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
