"""Anybody's runs: a table with one row per run becomes the records that a study takes.

Nothing here needs the project's trainer, or JAX.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw

from replay_jax.analysis.sources.columns import columns_of
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.records import AnalysisConfig
from replay_jax.analysis.study.study import Study
from replay_jax.errors import UserError

_CONSTANT = ("uniform", "constant", "constant mixture", "mixture")
_NATS = {"nats": 1.0, "nat": 1.0, "bits": math.log(2), "bit": math.log(2)}
# Bits over nats; between seeds of one setting no real spread is like it.
_BITS_RATIO = 1 / math.log(2)
# How long a run was trained: column to the field of a record.
_TRAINING = {"steps": "total_steps", "flops": "flops"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class FrameRuns:
    """Runs of a table, ready for a study.

    Attributes:
        records: one per run that can be compared; losses in nats per token.
        config: what is compared with what.
        notes: what was left out or assumed, one sentence each.
        has_generic: whether generic losses were given; without them the records hold zeros.
    """

    records: tuple[dict[str, Any], ...]
    config: AnalysisConfig
    notes: tuple[str, ...]
    has_generic: bool


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
    """Analyse a table of runs (pandas, polars, pyarrow); raises UserError as `runs_of_frame`."""
    runs = runs_of_frame(
        frame, reference=reference, tuned=tuned, axes=axes, ignore=ignore, columns=columns,
        level=level,
    )  # fmt: skip
    return analyse_anyway(runs.records, runs.config)


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
        frame: any eager frame that narwhals knows; one row per run.
        reference: column to value of the runs on the reference curve; default: no replay.
        tuned: columns of settings of which the best is taken; `target_epochs` is among them.
        axes: columns of further settings, which are never compared with each other.
        ignore: columns to leave out.
        columns: column to the name that the table has for it, where it is not known by that.
        level: of all intervals.

    Raises:
        UserError: a column is missing or unknown, a row lacks a value, losses have mixed units, two
            rows are one run, or no run is left.
    """
    try:
        table = nw.from_native(frame, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise UserError(
            "two columns have one name, or the first row is no row of names: "
            f"{' '.join(str(error).split())}"
        ) from error
    names = [name for name in table.columns if name not in ignore]
    own = [name for name in (*tuned, *axes) if name != "target_epochs"]
    found = columns_of(names, own=own, named=columns or {})
    rows = [
        {"row": f"row {number}", **{ours: line[theirs] for ours, theirs in found.items()},
         **{name: line[name] for name in own}}
        for number, line in enumerate(table.iter_rows(named=True), start=1)
    ]  # fmt: skip
    has_generic = "generic_loss" in found
    records = [_record(row, own) for row in rows]
    finite = [r for r in records if all(map(math.isfinite, r["losses"].values()))]
    if not finite:
        raise UserError(f"none of the {len(rows)} runs has finite losses: nothing to analyse")
    _refuse_duplicates(finite, own)
    _refuse_mixed_units(finite, own)
    searched = tuple(dict.fromkeys([*(["target_epochs"] if "target_epochs" in found else []),
                                    *tuned]))  # fmt: skip
    return FrameRuns(
        records=tuple(finite),
        config=AnalysisConfig(reference or {"replay_fraction": 0.0}, searched, level),
        notes=_notes(records, finite, found),
        has_generic=has_generic,
    )


def _record(row: Row, own: Sequence[str]) -> dict[str, Any]:
    row = {**row, "row": _place(row)}
    unit = str(_given(row, "loss_unit", "nats")).lower()
    if unit not in _NATS:
        raise UserError(f"{row['row']}: loss_unit {unit!r} is neither 'nats' nor 'bits'")
    fraction = _number(row, "replay_fraction")
    tokens = _whole(row, "target_tokens")
    if not 0 <= fraction < 1:
        raise UserError(
            f"{row['row']}: replay_fraction {fraction:g} is not in [0, 1); a percentage is "
            "divided by 100"
        )
    if tokens <= 0:
        raise UserError(f"{row['row']}: target_tokens {tokens:,} is no positive whole number")
    allocation = _number({"allocation": 1.0, **row}, "allocation")
    protocol = str(_given(row, "protocol", "two_stage"))
    losses = {
        "target": _number(row, "target_loss", finite=False) * _NATS[unit],
        "generic": _number(row, "generic_loss", finite=False) * _NATS[unit]
        if "generic_loss" in row
        else 0.0,
    }
    return {
        "id": row["row"],
        "name": str(_given(row, "name", row["row"])),
        "overrides": {name: row[name] for name in own},
        "seed": _whole(row, "seed"),
        "protocol": "uniform" if protocol.lower() in _CONSTANT else protocol,
        "replay_fraction": {"requested": fraction, "realised": fraction},
        "allocation": {"requested": allocation, "realised": allocation},
        "target_tokens": tokens,
        "target_epochs": _number({"target_epochs": 1.0, **row}, "target_epochs"),
        "losses": losses,
        "evaluation": str(_given(row, "evaluation", "the same")),
        "target": str(_given(row, "target", "target")),
        "generic": str(_given(row, "generic", "generic data")),
        "curve": [],
        "boundary": None,
        "tasks": {},
        "config": {},
        **{field: _number(row, name) for name, field in _TRAINING.items() if name in row},
    }


def _place(row: Row) -> str:
    """Where a run stands in the table, with its name if it has one."""
    return f"{row['row']} ({row['name']})" if "name" in row and row["name"] else str(row["row"])


def _given(row: Row, name: str, otherwise: Any) -> Any:
    """An optional value, or what stands for it where the table has no such column."""
    if name not in row:
        return otherwise
    if row[name] is None or row[name] != row[name]:
        raise UserError(f"{row['row']} has no {name}: fill it in, or leave the column out")
    return row[name]


def _number(row: Row, name: str, *, finite: bool = True) -> float:
    """A number of a row; a loss may be missing or infinite: that run diverged."""
    value = row[name]
    if value is None:
        value = math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{row['row']}: {name} {value!r} is no number") from error
    if finite and not math.isfinite(number):
        raise UserError(f"{row['row']} has no {name}: fill it in, or leave the row out")
    return number


def _whole(row: Row, name: str) -> int:
    number = _number(row, name)
    if number != int(number):
        raise UserError(f"{row['row']}: {name} {number:g} is no whole number")
    return int(number)


def _setting(record: Row, own: Sequence[str]) -> tuple[Any, ...]:
    return (
        record["target"], record["evaluation"], record["protocol"], record["target_tokens"],
        record["replay_fraction"]["requested"], record["allocation"]["requested"],
        record["target_epochs"], *(str(record["overrides"][name]) for name in own),
    )  # fmt: skip


def _refuse_duplicates(records: Sequence[Row], own: Sequence[str]) -> None:
    seen: dict[tuple[Any, ...], str] = {}
    for record in records:
        place = (*_setting(record, own), record["seed"])
        if place in seen:
            raise UserError(
                f"{seen[place]} and {record['id']} are one run, of seed {record['seed']} and the "
                "same settings: drop one, or name the column in which they differ as an axis"
            )
        seen[place] = record["id"]


def _refuse_mixed_units(records: Sequence[Row], own: Sequence[str]) -> None:
    settings: dict[tuple[Any, ...], list[Row]] = {}
    for record in records:
        settings.setdefault(_setting(record, own), []).append(record)
    for runs in settings.values():
        order = sorted(runs, key=lambda record: record["losses"]["target"])
        low, high = (order[end]["losses"]["target"] for end in (0, -1))
        if low > 0 and abs(high / low / _BITS_RATIO - 1) < 0.04:
            raise UserError(
                f"{order[0]['id']} and {order[-1]['id']} differ in their seed only, but by the "
                f"factor {high / low:.2f} in loss ({low:.3f} and {high:.3f}): one seems to be in "
                "nats and one in bits; add a column loss_unit"
            )


def _notes(
    records: Sequence[Row], finite: Sequence[Row], columns: Mapping[str, str]
) -> tuple[str, ...]:
    notes = []
    gone = [r["id"] for r in records if not any(r is kept for kept in finite)]
    if gone:
        notes.append(f"left out, because their loss is no finite number: {', '.join(gone)}")
    if "target_epochs" not in columns:
        notes.append("no column target_epochs: epochs are shown as 1 and nothing is known of them")
    if "generic_loss" not in columns:
        notes.append("no column generic_loss: nothing can be said of what replay saves elsewhere")
    for target in sorted({record["target"] for record in finite}):
        seeds: dict[bool, set[int]] = {True: set(), False: set()}
        for record in (r for r in finite if r["target"] == target):
            seeds[record["replay_fraction"]["requested"] > 0].add(record["seed"])
        if all(seeds.values()) and not seeds[True] & seeds[False]:
            notes.append(
                f"{target}: runs with and without replay have no seed in common, so what seeds "
                "share does not cancel and intervals are wider than they need be"
            )
    return tuple(notes)
