"""Runs as an experiment tracker keeps them, settings and last values by name, made a table.

A tracker has hundreds of names where a table has ten columns. So names are found by what they mean,
values that no column is made of are passed over, and a setting that differs between runs has to be
spoken of: it may be what makes two of them different.
"""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replay_jax.analysis.sources.columns import (
    ALIASES,
    REQUIRED,
    SETTINGS,
    Columns,
    column_called,
    columns_named,
    nearest,
    of_one_kind,
    plain,
)
from replay_jax.errors import UserError

# Under this name a run of this project has its whole record, as JSON text.
OWN_RECORD = "replay_jax_record"
# Columns that are measured: their names are looked for among values before settings.
_MEASURED = ("target_loss", "generic_loss", "steps", "flops")


@dataclass(frozen=True)
class Logged:
    """One run: its settings and its last values by dotted name; `record` if it is one of ours."""

    name: str
    settings: Mapping[str, Any]
    values: Mapping[str, Any]
    record: Mapping[str, Any] | None = None


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by dotted name, lists as JSON; what begins with _ is the tracker's own."""
    for key, value in values.items():
        name = str(key)
        if not prefix and name.startswith("_"):
            continue
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield prefix + name, json.dumps(value, default=str)
        else:
            yield prefix + name, value


def own_record(text: Any) -> dict[str, Any] | None:
    """The record that a run of ours was sent with; None if the text is none."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def table_of(
    runs: Sequence[Logged],
    *,
    named: Mapping[str, str],
    own: Sequence[str],
    ignore: Sequence[str],
) -> Columns:
    """A row per run under the names of docs/analyse.md, and a column per setting of the user's.

    Args:
        runs: at least one.
        named: column to the name it has in these runs, where that is no other name it is known by.
        own: settings to tune or tell apart; the last part of a dotted name is enough.
        ignore: settings that are none.

    Raises:
        UserError: no name, or several, for a column; a column of several kinds; or settings that
            differ and are not named.
    """
    settings = list(dict.fromkeys(name for run in runs for name in run.settings))
    values = list(dict.fromkeys(name for run in runs for name in run.values))
    columns = {
        ours: _there(theirs, settings + values) for ours, theirs in columns_named(named).items()
    }
    for ours in ALIASES:
        pools = (values, settings) if ours in _MEASURED else (settings, values)
        if ours not in columns and (found := _named(ours, pools, settings)) is not None:
            columns[ours] = found
    for ours in REQUIRED:
        if ours not in columns:
            raise UserError(_missing(ours, settings + values))
    kept = {columns[ours] for ours in SETTINGS if ours in columns}
    knobs = {name: theirs for name in own if (theirs := _there(name, settings)) not in kept}
    passed = {_there(name, settings) for name in ignore}
    _refuse_unspoken(runs, settings, {*columns.values(), *knobs.values(), *passed})
    # A setting and a value may have one name, such as `loss`.
    set_first = [{**run.values, **run.settings} for run in runs]
    measured_first = [{**run.settings, **run.values} for run in runs]
    table = {
        ours: _column(measured_first if ours in _MEASURED else set_first, theirs)
        for ours, theirs in {**columns, **knobs}.items()
    }
    if "name" not in columns:
        table["name"] = [run.name for run in runs]
    return table


def _named(ours: str, pools: Sequence[Sequence[str]], settings: Sequence[str]) -> str | None:
    """The one name that means a column: in full, else by the last part of a setting's."""
    for pool, last in (*((pool, False) for pool in pools), (settings, True)):
        found = [n for n in pool if column_called(n.rpartition(".")[2] if last else n) == ours]
        if len(found) > 1:
            raise UserError(
                f"{', '.join(found)} all mean {ours!r}: say --column={ours}=NAME with one of them"
            )
        if found:
            return found[0]
    return None


def _there(name: str, names: Sequence[str]) -> str:
    """A name of the runs that the user gave, in full or by its last part."""
    last = [(n, n.rpartition(".")[2]) for n in names]
    found = (
        [n for n in names if n == name]
        or [n for n in names if plain(n) == plain(name)]
        or [n for n, end in last if end == name]
        or [n for n, end in last if plain(end) == plain(name)]
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name!r} means {', '.join(found)}: give one of them in full")
    near = f"; the nearest name is {nearest(name, names)!r}" if names else ""
    raise UserError(f"no run has {name!r}{near}")


def _missing(ours: str, names: Sequence[str]) -> str:
    """What to say where no name means a column: the nearest of all there are."""
    wanted = (ours, *ALIASES[ours])

    def likeness(name: str) -> float:
        return max(difflib.SequenceMatcher(None, plain(name), w).ratio() for w in wanted)

    near = max(names, key=likeness, default=None)
    closest = "; they have no names at all" if near is None else f"; the nearest is {near!r}"
    return (
        f"no run has {ours!r} (or {', '.join(ALIASES[ours])}) among its {len(names)} names"
        f"{closest}: say --column={ours}=NAME"
    )


def _refuse_unspoken(runs: Sequence[Logged], settings: Sequence[str], spoken: set[str]) -> None:
    differing = [
        name
        for name in settings
        if name not in spoken
        and len({str(run.settings[name]) if name in run.settings else None for run in runs}) > 1
    ]
    if differing:
        shown = ", ".join(differing[:8])
        more = f" and {len(differing) - 8} more" if len(differing) > 8 else ""
        raise UserError(
            f"these settings differ between runs: {shown}{more}; name each with --tuned or --axes, "
            "or with --ignore where it changes no result"
        )


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """A column of one type: words where any value is a word."""
    found = [row[name] if name in row else None for row in rows]
    if any(isinstance(value, str) for value in found):
        return [None if value is None else str(value) for value in found]
    return of_one_kind(name, found)
