"""The ledger of a run: how many sequences and tokens of each source, how often, which rows."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.data.reading.views import SourceView, counted_labels, view_places, view_rows
from replay_jax.errors import UserError
from replay_jax.schedule.stages import Realised, Requested, Schedule
from replay_jax.strict import to_plain

_BLOCK = 1 << 20  # draws looked at together
RowLabels = Mapping[str, np.ndarray | None]


@dataclass(frozen=True)
class Entry:
    """What one source gives to one stage, or to the whole run.

    Attributes:
        source: name of the source.
        sequences: rows drawn.
        tokens: labels drawn, `sequences * seq_len`.
        unique: different rows among them, or None where that is not known.
        repeated: draws of a row that had already been drawn in the same span, or None.
        epochs: sequences over the rows that may be drawn, or None if that number is unknown.
        first_row: row of the first draw, or None without draws or prepared data.
        last_row: row of the last draw, or None likewise.
        supervised: labels that count in the loss, or None where no source says which do.
    """

    source: str
    sequences: int
    tokens: int
    unique: int | None
    repeated: int | None
    epochs: float | None
    first_row: int | None
    last_row: int | None
    supervised: int | None = None


@dataclass(frozen=True)
class StageEntries:
    """The entries of one stage, which holds `sequences` sequences from `first_sequence` on.

    `batch_size` is that of its steps where it is not the run's.
    """

    name: str
    first_sequence: int
    sequences: int
    entries: tuple[Entry, ...]
    batch_size: int | None = None

    @property
    def words(self) -> str:
        """The name, with a batch size of its own."""
        size = self.batch_size
        return self.name if size is None else f"{self.name}, batches of {size}"


@dataclass(frozen=True)
class Ledger:
    """All entries of a run, planned or realised, and what was asked for.

    Attributes:
        batch_size: sequences per step, of stages without a size of their own.
        total_steps: steps of the run.
        stages: entries per stage; in a realised ledger only the stages that were counted apart.
        totals: entries of the whole run, one per source.
        requested: what the user asked for.
        realised: what the counts give, or None where stages were not counted apart.
    """

    batch_size: int
    total_steps: int
    stages: tuple[StageEntries, ...]
    totals: tuple[Entry, ...]
    requested: Requested
    realised: Realised | None

    def to_json(self) -> dict[str, Any]:
        """Returns the ledger as plain JSON values."""
        values = to_plain(self)
        spans = [values["totals"], *(stage["entries"] for stage in values["stages"])]
        for entry in itertools.chain.from_iterable(spans):
            if entry["supervised"] is None:  # as ledgers were written before there was the field
                del entry["supervised"]
        for stage in values["stages"]:
            if stage["batch_size"] is None:
                del stage["batch_size"]
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Ledger":
        """Returns the ledger that `to_json` wrote; raises ValueError if it is none."""
        try:
            realised = values["realised"]
            return Ledger(
                batch_size=values["batch_size"],
                total_steps=values["total_steps"],
                stages=tuple(
                    StageEntries(
                        name=stage["name"],
                        first_sequence=stage["first_sequence"],
                        sequences=stage["sequences"],
                        entries=tuple(Entry(**entry) for entry in stage["entries"]),
                        batch_size=stage["batch_size"] if "batch_size" in stage else None,
                    )
                    for stage in values["stages"]
                ),
                totals=tuple(Entry(**entry) for entry in values["totals"]),
                requested=Requested(**values["requested"]),
                realised=None if realised is None else Realised(**realised),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a ledger: {error}") from error

    def render(self) -> str:
        """Returns the ledger as a plain-text table, followed by requested and realised values."""
        lines = [[*_HEADINGS, "supervised"]]
        for stage in self.stages:
            lines += [_cells(stage.words, entry) for entry in stage.entries if entry.sequences]
        lines += [_cells("whole run", entry) for entry in self.totals]
        if all(entry.supervised is None for entry in self.totals):
            lines = [line[:-1] for line in lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        table.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
        return "\n".join([*table, "", *self._requests()]) + "\n"

    def _requests(self) -> list[str]:
        """Lines that set what was asked for beside what came of it."""
        asked, got = self.requested, self.realised
        if got is None:
            return [f"protocol {asked.protocol}; its stages were not counted apart"]
        rows = [
            ("replay fraction", asked.replay_fraction, got.replay_fraction),
            ("stage-2 allocation", asked.stage2_allocation, got.stage2_allocation),
            ("stage-2 steps", asked.stage2_steps, got.stage2_steps),
            ("stage-2 share of the run", None, got.stage2_duration),
            ("target share of the run", None, got.target_fraction),
            ("target epochs", asked.target_epochs, got.target_epochs),
        ]
        lines = [f"{'protocol ' + asked.protocol:<26}{'requested':>12}{'realised':>14}"]
        for name, request, result in rows:
            lines.append(f"{name:<26}{_number(request):>12}{_number(result):>14}")
        return lines


def plan_ledger(
    schedule: Schedule, views: Mapping[str, SourceView], row_labels: RowLabels | None = None
) -> Ledger:
    """Returns the ledger that a schedule and the views of its sources imply.

    With `row_labels`, by source the labels of each row that count in the loss, int64 [rows], or
    None where all do, it says how many count.

    Raises UserError if a source has no view or would run out without leave to repeat.
    """
    names = schedule.source_names
    columns = []
    for name in names:
        view, counts = _view(views, name), [stage.count(name) for stage in schedule.stages]
        view.check_draws(sum(counts))
        firsts = itertools.accumulate(counts[:-1], initial=0)
        spans = [*zip(firsts, counts, strict=True), (0, sum(counts))]
        entries = _entries(view, spans)
        if row_labels is not None:
            entries = [
                dataclasses.replace(entry, supervised=counted_labels(view, *span, row_labels[name]))
                for entry, span in zip(entries, spans, strict=True)
            ]
        columns.append(entries)
    *stages, totals = zip(*columns, strict=True)
    return Ledger(
        batch_size=schedule.batch_size,
        total_steps=schedule.total_steps,
        stages=tuple(
            StageEntries(
                stage.name or f"stage {number}", start, stage.sequences, entries, stage.batch_size
            )
            for number, (start, stage, entries) in enumerate(
                zip(schedule.stage_starts, schedule.stages, stages, strict=True), 1
            )
        ),
        totals=totals,
        requested=schedule.requested,
        realised=schedule.realised(),
    )


def _view(views: Mapping[str, SourceView], name: str) -> SourceView:
    if name not in views:
        raise UserError(
            f"the schedule draws from {name!r}, but the sources are {', '.join(sorted(views))}"
        )
    return views[name]


def _entries(view: SourceView, spans: Sequence[tuple[int, int]]) -> list[Entry]:
    """The entry of every span of draws, given as its first draw and their number."""
    ends = [draw for first, count in spans if count for draw in (first, first + count - 1)]
    rows = iter([None] * len(ends) if view.pool_rows is None else view_rows(view, ends).tolist())
    entries = []
    for first, count in spans:
        unique = _unique(view, first, count)
        entries.append(
            Entry(
                source=view.source,
                sequences=count,
                tokens=count * view.seq_len,
                unique=unique,
                repeated=None if unique is None else count - unique,
                epochs=None if view.rows is None else count / view.rows,
                first_row=next(rows) if count else None,
                last_row=next(rows) if count else None,
            )
        )
    return entries


def _unique(view: SourceView, first: int, count: int) -> int | None:
    """Different rows among draws `first` to `first + count`; None if the order must be known."""
    rows = view.rows
    if rows is None:
        return None if view.repeat else count
    start, stop = first // rows, -(-(first + count) // rows)
    whole_epochs = (first + count) // rows - -(-first // rows)
    if whole_epochs >= 1:
        return rows
    if stop - start <= 1:
        return count
    if view.pool_rows is None:
        return None
    # The rest of one epoch and the beginning of the next.
    seen = np.zeros(rows, bool)
    for begin in range(first, first + count, _BLOCK):
        seen[view_places(view, np.arange(begin, min(begin + _BLOCK, first + count)))] = True
    return int(np.count_nonzero(seen))


_HEADINGS = [
    "stage",
    "source",
    "sequences",
    "tokens",
    "unique",
    "repeated",
    "epochs",
    "first row",
    "last row",
]


def _cells(stage: str, entry: Entry) -> list[str]:
    values = dataclasses.astuple(entry)[1:]
    return [stage, entry.source, *(_number(value) for value in values)]


def _number(value: float | None) -> str:
    """A number for a table; a dash for what is not known."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
