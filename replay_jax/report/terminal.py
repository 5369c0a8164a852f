"""The report's answer and main tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from replay_jax.analysis.study.study import Study
from replay_jax.report.answer import Advice, answers
from replay_jax.report.elements.blocks import Table
from replay_jax.report.tables.study_tables import losses_table, reference_table
from replay_jax.report.tables.task_tables import task_tables


def terminal_table(
    study: Study, advice: Advice, records: Sequence[Mapping[str, Any]]
) -> RenderableType:
    """Return the answer, every budget's losses and multipliers, the reference curve, and tasks.

    Losses are nats per token with the study's intervals; print it with `rich`.
    """
    parts: list[RenderableType] = []
    for target, answer in zip(study.targets, answers(study, advice), strict=True):
        if len(study.targets) > 1:
            parts.append(Text(f"target: {target.target}", style="bold"))
        parts.append(rich_table(losses_table(target)))
        reference = reference_table(target)
        if reference is not None:
            parts.append(rich_table(reference))
        parts += [rich_table(table) for table in task_tables(target, records)]
        if target.curve is None:
            parts.append(Text(f"no reference law: {target.curve_problem}", style="yellow"))
        parts += [Text(f"note: {note}", style="yellow") for note in target.notes]
        style = "bold green" if answer.tone == "good" else "bold yellow"
        parts.append(Padding(Text(answer.sentence, style=style), (1, 0)))
    return Group(*parts)


def rich_table(table: Table) -> RichTable:
    """Return a table of blocks as a rich table, its remark as the caption."""
    drawn = RichTable(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title=table.title,
        caption=table.words or None,
        title_justify="left",
        caption_justify="left",
        header_style="bold",
    )
    for column in table.columns:
        drawn.add_column(column.title, justify="right" if column.align == "right" else "left")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row.cells), style="bold" if row.strong else None)
    return drawn
