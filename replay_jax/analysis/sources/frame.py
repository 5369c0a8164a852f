"""Anybody's runs: a table with one row per run becomes the records that a study takes.

Nothing here needs the project's trainer, or JAX.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.sources.checks import (
    checked_reference,
    comparable,
    refuse_different_sets,
    refuse_duplicates,
    refuse_mixed_units,
)
from replay_jax.analysis.sources.columns import (
    columns_named,
    columns_of,
    nameless,
    of_one_kind,
    there,
)
from replay_jax.analysis.sources.notes import notes
from replay_jax.analysis.sources.rows import record_of
from replay_jax.analysis.sources.tables import plain_table
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.study import Study
from replay_jax.errors import UserError

_EPOCHS = "target_epochs"
_NAMELESS = "left out: columns without a name, as pandas writes its index"


@dataclass(frozen=True)
class FrameRuns:
    """Runs of a table, ready for a study.

    Attributes:
        records: one per run that can be compared; losses in nats per token.
        config: what is compared with what.
        notes: what was left out or assumed, one sentence each.
    """

    records: tuple[Mapping[str, Any], ...]
    config: AnalysisConfig
    notes: tuple[str, ...]

    def study(self) -> Study:
        """What they say; raises UserError where they do not compare."""
        return replace(analyse_anyway(self.records, self.config), notes=self.notes)


def analyse_frame(
    frame: Any,
    *,
    reference: Mapping[str, Any] | None = None,
    tuned: Sequence[str] = (),
    axes: Sequence[str] = (),
    ignore: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    level: float = 0.9,
) -> Study:
    """Analyse a table of runs (a frame of pandas, polars, pyarrow, or lists by their names).

    What was left out or looks wrong is in the `notes` of the study.
    Raises UserError as `runs_of_frame`.
    """
    runs = runs_of_frame(
        frame, reference=reference, tuned=tuned, axes=axes, ignore=ignore, columns=columns,
        level=level,
    )  # fmt: skip
    return runs.study()


def runs_of_frame(
    frame: Any,
    *,
    reference: Mapping[str, Any] | None = None,
    tuned: Sequence[str] = (),
    axes: Sequence[str] = (),
    ignore: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    level: float = 0.9,
) -> FrameRuns:
    """Read a table of runs; docs/analyse.md lists its columns.

    Args:
        frame: any eager frame that narwhals knows, or columns by name; one row per run.
        reference: column to value of the runs on the reference curve; default: no replay.
        tuned: columns of settings of which the best is taken; epochs are, unless they are an axis.
        axes: columns of further settings, which are never compared with each other.
        ignore: columns to leave out.
        columns: column to the name that the table has for it, where it is not known by that.
        level: of all intervals.

    Raises:
        UserError: it is no table, a column is missing or unknown, a row lacks a value, losses have
            mixed units, two rows are one run, or no run is left; or an argument is of a wrong kind.
    """
    _check_arguments(reference, columns, level, tuned=tuned, axes=axes, ignore=ignore)
    table = plain_table(frame)
    said = _spoken(list(table), tuned, axes, ignore, columns or {})
    found = columns_of(said.names, own=[*said.tuned, *said.axes], named=said.named)
    # Epochs that are an axis have the name by which a record knows them.
    called = {n: _EPOCHS if found.get(_EPOCHS) == n else n for n in (*said.tuned, *said.axes)}
    own = {called[n]: n for n in called if n in said.axes or called[n] != _EPOCHS}
    records = _records(table, found, own)
    finite = comparable(records)
    refuse_different_sets(finite)
    refuse_duplicates(finite, list(own))
    if "loss_unit" not in found:
        refuse_mixed_units(finite, list(own))
    compared = {"replay_fraction": 0.0}
    if reference:
        compared = checked_reference(reference, finite, list(own))
    epochs = [_EPOCHS] if _EPOCHS in found and _EPOCHS not in own else []
    searched = tuple(dict.fromkeys([*epochs, *(called[name] for name in said.tuned)]))
    apart = tuple(called[name] for name in said.axes)
    lines = notes(records, finite, found, list(own))
    return FrameRuns(
        records=tuple(finite),
        config=AnalysisConfig(compared, searched, level, axes=apart),
        notes=(_NAMELESS, *lines) if said.nameless else lines,
    )


@dataclass(frozen=True)
class _Spoken:
    """Names as the table has them: all that are read, and what the user says of some."""

    names: Sequence[str]
    tuned: Sequence[str]
    axes: Sequence[str]
    named: Mapping[str, str]
    nameless: bool  # whether columns without a name are left out


def _spoken(
    table: Sequence[str],
    tuned: Sequence[str],
    axes: Sequence[str],
    ignore: Sequence[str],
    columns: Mapping[str, str],
) -> _Spoken:
    tuned, axes, ignore = ([there(n, table) for n in given] for given in (tuned, axes, ignore))
    named = {ours: there(theirs, table) for ours, theirs in columns_named(columns).items()}
    if both := [name for name in tuned if name in axes]:
        raise UserError(f"column {both[0]!r} is named as tuned and as an axis: choose one")
    spoken = {*tuned, *axes, *named.values()}
    if both := [name for name in ignore if name in spoken]:
        raise UserError(f"column {both[0]!r} is named as ignored and as something else: choose one")
    out = [n for n in table if nameless(n) and n not in {*spoken, *ignore}]
    names = [name for name in table if name not in {*out, *ignore}]
    return _Spoken(names, tuned, axes, named, nameless=bool(out))


def _records(
    table: Mapping[str, Sequence[Any]], found: Mapping[str, str], own: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A record per row; `found` and `own`: columns of ours and settings to the table's names."""
    values = {name: of_one_kind(name, table[name]) for name in {*found.values(), *own.values()}}
    return [
        record_of(
            {ours: values[theirs][row] for ours, theirs in found.items()},
            row + 1,
            {key: values[name][row] for key, name in own.items()},
        )
        for row in range(len(next(iter(values.values()))))
    ]


def _check_arguments(reference: Any, columns: Any, level: Any, **lists: Any) -> None:
    """Raise UserError where an argument from Python is of a wrong kind."""
    for option, names in lists.items():
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise UserError(f"{option} is a list of columns' names, such as ['lr'], not {names!r}")
    for option, pairs in (("reference", reference), ("columns", columns)):
        if pairs is not None and not isinstance(pairs, Mapping):
            raise UserError(f"{option} is a dict by columns' names, not {pairs!r}")
    words = [*lists.values(), reference or (), columns or (), (columns or {}).values()]
    for word in (word for part in words for word in part):
        if not isinstance(word, str):
            raise UserError(f"columns are named in words, not as {word!r}")
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise UserError(f"level is a number between 0 and 1, such as 0.9, not {level!r}")
