"""The pieces a report is made of; each may belong to one target or to all of them (target None)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import altair as alt


@dataclass(frozen=True)
class Note:
    """One paragraph; tone "plain" or "caution"."""

    words: str
    target: str | None = None
    tone: str = "plain"
    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, with a title or without; tone "plain" or "caution"."""

    title: str
    items: tuple[str, ...]
    target: str | None = None
    tone: str = "plain"
    kind: ClassVar[str] = "list"


@dataclass(frozen=True)
class Code:
    """Lines shown as they are: a command or a configuration; `folded` is a title to click on."""

    words: str
    folded: str = ""
    target: str | None = None
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Column:
    """A table column; align "left", "right" or "left wrap".

    Where a terminal is too narrow, columns with the largest `drop` are left out first; 0 stays.
    `generic`: it is about generic losses, and left out where nobody measured them.
    """

    title: str
    align: str = "left"
    drop: int = 0
    generic: bool = False


@dataclass(frozen=True)
class Line:
    """A table row, one string per column; strong rows are the ones to look at first."""

    cells: tuple[str, ...]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a title above it and a remark below it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Line, ...]
    words: str = ""
    target: str | None = None
    folded: bool = False
    kind: ClassVar[str] = "table"


def without_generic(table: Table) -> Table:
    """The table without its columns of generic losses."""
    kept = [i for i, column in enumerate(table.columns) if not column.generic]
    rows = tuple(Line(tuple(row.cells[i] for i in kept), row.strong) for row in table.rows)
    return replace(table, columns=tuple(table.columns[i] for i in kept), rows=rows)


@dataclass(frozen=True)
class Figure:
    """A chart with its title and what to look for in it; `name` is unique, and a file name."""

    name: str
    title: str
    caption: str
    chart: alt.TopLevelMixin
    target: str | None = None
    kind: ClassVar[str] = "figure"

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification as plain data, not to be changed.

        Had once for the picture and the page, and not held against the schema of Vega-Lite, which
        takes longer than drawing; the tests hold every kind of figure against it.
        """
        return dict(self.chart.to_dict(validate=False))


Block = Note | Bullets | Code | Table | Figure


@dataclass(frozen=True)
class Section:
    """A titled part of the report; `anchor` is its address within the page."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Tile:
    """One headline number with what it means and a remark under it; `generic` as of a column."""

    label: str
    value: str
    note: str
    generic: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer for one target: what it rests on, one sentence, and its numbers.

    `tone` is "good" where replay helps, "plain" where it does not, "doubt" where nobody can tell.
    `others` has what it costs elsewhere and, where there are several budgets, protocols or axes,
    one sentence for each of the others; `groups` a row for each of all.
    """

    target: str | None
    basis: str
    sentence: str
    tone: str
    tiles: tuple[Tile, ...]
    groups: "Table | None"
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """Everything that a report shows, before it becomes HTML."""

    title: str
    question: str
    targets: tuple[str, ...]
    answers: tuple[Answer, ...]
    lead: tuple[Figure, ...]  # the first figure of every target, beside its answer
    sections: tuple[Section, ...]
    footer: str

    def figures(self) -> tuple[Figure, ...]:
        """Return every figure in reading order."""
        blocks = (block for section in self.sections for block in section.blocks)
        return (*self.lead, *(block for block in blocks if isinstance(block, Figure)))
