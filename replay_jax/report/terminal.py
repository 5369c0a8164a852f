"""The report's answer and main tables for a terminal, at any width and of bounded length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from replay_jax.analysis.study.study import Study, TargetStudy
from replay_jax.report.advice import Advice
from replay_jax.report.answer import answers, settled
from replay_jax.report.elements.blocks import Answer, Table, without_generic
from replay_jax.report.elements.words import count
from replay_jax.report.tables.screen import rich_table
from replay_jax.report.tables.study_tables import losses_tables, reference_table
from replay_jax.report.tables.task_tables import task_tables

MOST_LINES = 120
_ELSEWHERE = "more in the report"


@dataclass(frozen=True)
class _Room:
    """How much is shown: tables per target, rows per table, notes and reasons per target."""

    tables: int
    rows: int
    notes: int


# Tried in turn until everything has room.
_ROOMS = (
    _Room(100, 100, 100), _Room(8, 30, 3), _Room(8, 20, 2), _Room(4, 12, 4), _Room(2, 8, 4),
    _Room(1, 6, 2), _Room(0, 6, 1), _Room(0, 3, 0), _Room(0, 0, 0),
)  # fmt: skip


@dataclass(frozen=True)
class TerminalReport:
    """The answer, every budget's losses and multipliers, the reference curve, tasks and doubts.

    Losses are nats per token with the study's intervals. It has at most `MOST_LINES` lines; what
    there is no room for is in the report, and the terminal says so.
    """

    study: Study
    advice: Advice
    records: Sequence[Mapping[str, Any]]
    generic: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines that have room at the console's width."""
        for room in _ROOMS:
            lines = console.render_lines(self._parts(room, options.max_width), options, pad=False)
            if len(lines) <= MOST_LINES:
                break
        for line in lines[:MOST_LINES]:
            yield from line
            yield Segment.line()

    def _parts(self, room: _Room, width: int) -> Group:
        parts: list[RenderableType] = []
        for target, answer in zip(
            self.study.targets, answers(self.study, self.advice), strict=True
        ):
            if len(self.study.targets) > 1:
                parts.append(Text(f"target: {target.target}", style="bold"))
            parts += self._tables(target, room, width)
            parts += self._ending(target, answer, room, width)
        return Group(*parts)

    def _tables(self, target: TargetStudy, room: _Room, width: int) -> list[RenderableType]:
        reference = reference_table(target)
        first, *others = losses_tables(target) or (None,)
        # What the columns mean is said once; every table has its baseline as a row.
        tables = [] if first is None else [first, *(replace(t, words="") for t in others)]
        tables += [] if reference is None else [reference]
        tables += task_tables(target, self.records)
        shown: list[RenderableType] = [
            rich_table(_shortened(self._known(table), room.rows), width)
            for table in tables[: room.tables]
        ]
        if len(tables) > room.tables:
            more = count(len(tables) - room.tables, "table")
            shown.append(Text(f"{more} {_ELSEWHERE}", style="dim"))
        return shown

    def _known(self, table: Table) -> Table:
        return table if self.generic else without_generic(table)

    def _ending(
        self, target: TargetStudy, answer: Answer, room: _Room, width: int
    ) -> list[RenderableType]:
        """Notes, every group's answer, the sentence of the first, and what to doubt about it."""
        notes = [f"note: {note}" for note in target.notes]
        if target.curve is None:
            notes.insert(0, f"no reference law: {target.curve_problem}")
        parts: list[RenderableType] = [Text(n, style="yellow") for n in _some(notes, room.notes)]
        if answer.groups is not None and room.rows:
            parts.append(rich_table(_shortened(self._known(answer.groups), room.rows), width))
        style = "bold green" if answer.tone == "good" else "bold yellow"
        parts.append(Padding(Text(answer.sentence, style=style), (1, 0, 0, 0)))
        parts += [Text(words) for words in answer.others]
        found = self.advice[target.target]
        if not isinstance(found, str):
            parts += [Text(f"- {reason}") for reason in _some(found[0].reasons, room.notes)]
        return [*parts, Text("")]


def terminal_table(
    study: Study,
    advice: Advice,
    records: Sequence[Mapping[str, Any]],
    *,
    generic: bool = True,
) -> RenderableType:
    """Return the answer and its tables, to be printed with `rich`.

    `generic`: whether generic losses were measured; their columns are left out otherwise.
    """
    return TerminalReport(settled(study, advice), advice, records, generic)


def _shortened(table: Table, rows: int) -> Table:
    """The table with its first rows, all strong ones among them, and how many there are more."""
    if len(table.rows) <= rows:
        return table
    strong = [row for row in table.rows if row.strong][:rows]
    others = [row for row in table.rows if not row.strong][: max(0, rows - len(strong))]
    kept = [row for row in table.rows if any(row is each for each in (*strong, *others))]
    more = f"{len(table.rows) - len(kept)} rows {_ELSEWHERE}. "
    return replace(table, rows=tuple(kept), words=more + table.words)


def _some(lines: Sequence[str], most: int) -> list[str]:
    if len(lines) <= most:
        return list(lines)
    more = f"{len(lines) - most} {_ELSEWHERE}" if most else ""
    return [*lines[:most], *([more] if more else [])]
