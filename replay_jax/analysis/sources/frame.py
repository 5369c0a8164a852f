"""Anybody's runs: a table with one row per run becomes the records that a study takes.

Nothing here needs the project's trainer, or JAX.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.sources.checks import (
    checked_reference,
    comparable,
    notes,
    protocol_called,
    refuse_duplicates,
    refuse_mixed_units,
)
from replay_jax.analysis.sources.columns import columns_of, of_one_kind
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.study import Study
from replay_jax.errors import UserError

_NATS = {"nats": 1.0, "nat": 1.0, "bits": math.log(2), "bit": math.log(2)}
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
        has_generic: whether any run has a generic loss. That of a run without is None; where the
            table has no such column, it is zero.
    """

    records: tuple[Mapping[str, Any], ...]
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
    """Analyse a table of runs (a frame of pandas, polars, pyarrow, or lists by their names).

    Raises UserError as `runs_of_frame`.
    """
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
        frame: any eager frame that narwhals knows, or columns by name; one row per run.
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
    columns_there, lines = _table(frame)
    names = [name for name in columns_there if name not in ignore]
    own = [name for name in (*tuned, *axes) if name != "target_epochs"]
    found = columns_of(names, own=own, named=columns or {})
    rows = [
        {"row": f"row {number}", **{ours: line[theirs] for ours, theirs in found.items()},
         **{name: line[name] for name in own}}
        for number, line in enumerate(lines, start=1)
    ]  # fmt: skip
    records = [_record(row, own) for row in rows]
    finite = comparable(records)
    refuse_duplicates(finite, own)
    if "loss_unit" not in found:
        refuse_mixed_units(finite, own)
    searched = tuple(dict.fromkeys([*(["target_epochs"] if "target_epochs" in found else []),
                                    *tuned]))  # fmt: skip
    compared = {"replay_fraction": 0.0}
    if reference:
        compared = checked_reference(reference, finite, own)
    return FrameRuns(
        records=tuple(finite),
        config=AnalysisConfig(compared, searched, level, axes=tuple(axes)),
        notes=notes(records, finite, found, own),
        has_generic="generic_loss" in found
        and any(record["losses"]["generic"] is not None for record in finite),
    )


def _table(frame: Any) -> tuple[Sequence[str], Iterable[Row]]:
    """Names of the columns, and the rows."""
    if isinstance(frame, Mapping):
        columns = [of_one_kind(name, values) for name, values in frame.items()]
        if len({len(values) for values in columns}) > 1:
            lengths = ", ".join(f"{name}: {len(values)}" for name, values in frame.items())
            raise UserError(f"columns of different lengths ({lengths}) are no table")
        rows = zip(*columns, strict=True)
        return list(frame), (dict(zip(frame, row, strict=True)) for row in rows)
    try:
        table = nw.from_native(frame, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise UserError(
            "two columns have one name, or the first row is no row of names: "
            f"{' '.join(str(error).split())}"
        ) from error
    return table.columns, table.iter_rows(named=True)


def _record(row: Row, own: Sequence[str]) -> dict[str, Any]:
    row = {**row, "row": _place(row)}
    unit = str(_given(row, "loss_unit", "nats")).lower()
    if unit not in _NATS:
        raise UserError(f"{row['row']}: loss_unit {unit!r} is neither 'nats' nor 'bits'")
    fraction = _number(row, "replay_fraction")
    _above_zero(row, "target_tokens")
    tokens = _whole(row, "target_tokens")
    if not 0 <= fraction < 1:
        why = (
            "at 1 no target data is trained on"
            if fraction == 1
            else "a percentage is divided by 100"
        )
        raise UserError(f"{row['row']}: replay_fraction {fraction:g} is not in [0, 1): {why}")
    protocol = protocol_called(str(_given(row, "protocol", "two_stage")))
    if protocol != "uniform":
        _distinct(fraction, row["row"])
    allocation = _number({"allocation": 1.0, **row}, "allocation")
    if not 0 <= allocation <= 1:
        raise UserError(f"{row['row']}: allocation {allocation:g} is not in [0, 1]")
    losses: dict[str, float | None] = {"target": _loss(row, "target_loss") * _NATS[unit]}
    generic = _loss(row, "generic_loss") * _NATS[unit] if "generic_loss" in row else 0.0
    losses["generic"] = None if math.isnan(generic) else generic
    return {
        "id": row["row"],
        "name": str(_given(row, "name", row["row"])),
        "overrides": {name: row[name] for name in own},
        "seed": _whole(row, "seed"),
        "protocol": protocol,
        "replay_fraction": {"requested": fraction, "realised": fraction},
        "allocation": {"requested": allocation, "realised": allocation},
        "target_tokens": tokens,
        "target_epochs": _above_zero({"target_epochs": 1.0, **row}, "target_epochs"),
        "losses": losses,
        "evaluation": str(_given(row, "evaluation", "the same")),
        "target": str(_given(row, "target", "target")),
        "generic": str(_given(row, "generic", "generic data")),
        "curve": [],
        "boundary": None,
        "tasks": {},
        "config": {},
        **{field: _above_zero(row, name) for name, field in _TRAINING.items() if name in row},
    }


def _distinct(fraction: float, where: str) -> None:
    """Raise UserError where a replay fraction is 0 or 1 to the decimals that a study tells."""
    rounded = round(fraction, 6)
    if rounded != fraction and rounded in (0, 1):
        fix = "write 0" if rounded == 0 else "leave the row out"
        raise UserError(
            f"{where}: replay_fraction {fraction!r} is {rounded:g} to six decimals, beyond which "
            f"fractions are not told apart: {fix}"
        )


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


def _above_zero(row: Row, name: str) -> float:
    number = _number(row, name)
    if number <= 0:
        raise UserError(f"{row['row']}: {name} {number:g} is not above 0")
    return number


def _loss(row: Row, name: str) -> float:
    loss = _number(row, name, finite=False)
    if loss <= 0:
        raise UserError(
            f"{row['row']}: {name} {loss:g} is not above 0, as a negative log-likelihood is; leave "
            "the cell empty where nothing was measured"
        )
    return loss


def _whole(row: Row, name: str) -> int:
    number = _number(row, name)
    if number != int(number):
        raise UserError(f"{row['row']}: {name} {number:g} is no whole number")
    return int(number)
