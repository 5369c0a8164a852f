"""A row of anybody's table becomes a record that a study takes, or is refused with the fix."""

import math
from collections.abc import Mapping
from typing import Any

from replay_jax.analysis.sources.checks import protocol_called
from replay_jax.errors import UserError

_NATS = {"nats": 1.0, "nat": 1.0, "bits": math.log(2), "bit": math.log(2)}
# How long a run was trained: column to the field of a record.
_TRAINING = {"steps": "total_steps", "flops": "flops"}
Row = Mapping[str, Any]


def record_of(row: Row, number: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run, losses in nats per token; a generic one that lacks is None.

    Args:
        row: its values by the columns of docs/analyse.md.
        number: of the row, from 1.
        settings: the user's own, by name.

    Raises:
        UserError: a value is missing, of another kind or out of its range.
    """
    name = row["name"] if "name" in row else None
    place = f"row {number}"
    row = {**row, "row": place if name in (None, "") else f"{place} ({name})"}
    unit = str(_given(row, "loss_unit", "nats")).lower()
    if unit not in _NATS:
        raise UserError(f"{row['row']}: loss_unit {unit!r} is neither 'nats' nor 'bits'")
    fraction = _fraction(row)
    _above_zero(row, "target_tokens")
    allocation = _number({"allocation": 1.0, **row}, "allocation")
    if not 0 <= allocation <= 1:
        raise UserError(f"{row['row']}: allocation {allocation:.15g} is not in [0, 1]")
    generic = _loss(row, "generic_loss") * _NATS[unit] if "generic_loss" in row else math.nan
    return {
        "id": row["row"],
        "name": place if name in (None, "") else str(name),
        "overrides": dict(settings),
        "seed": _whole(row, "seed"),
        "protocol": protocol_called(str(_given(row, "protocol", "two_stage"))),
        "replay_fraction": {"requested": fraction, "realised": fraction},
        "allocation": {"requested": allocation, "realised": allocation},
        "target_tokens": _whole(row, "target_tokens"),
        "target_epochs": _above_zero({"target_epochs": 1.0, **row}, "target_epochs"),
        "losses": {
            "target": _loss(row, "target_loss") * _NATS[unit],
            "generic": None if math.isnan(generic) else generic,
        },
        "evaluation": str(_given(row, "evaluation", "the same")),
        "target": str(_given(row, "target", "target")),
        "generic": str(_given(row, "generic", "generic data")),
        "curve": [],
        "boundary": None,
        "tasks": {},
        "config": {},
        **{field: _above_zero(row, name) for name, field in _TRAINING.items() if name in row},
    }


def _given(row: Row, name: str, otherwise: str) -> Any:
    """An optional value, or what stands for it where the table has no such column."""
    if name not in row:
        return otherwise
    if row[name] is None or row[name] == "":
        raise UserError(f"{row['row']} has no {name}: fill it in, or leave the column out")
    return row[name]


def _fraction(row: Row) -> float:
    fraction = _number(row, "replay_fraction")
    if not 0 <= fraction < 1:
        why = "a percentage is divided by 100"
        if fraction == 1:
            why = "at 1 no target data is trained on"
        raise UserError(f"{row['row']}: replay_fraction {fraction:.15g} is not in [0, 1): {why}")
    rounded = round(fraction, 6)
    mixture = protocol_called(str(_given(row, "protocol", "two_stage"))) == "uniform"
    if rounded != fraction and rounded in (0, 1) and not mixture:
        fix = "write 0" if rounded == 0 else "leave the row out"
        raise UserError(
            f"{row['row']}: replay_fraction {fraction!r} is {rounded:g} to six decimals, beyond "
            f"which fractions are not told apart: {fix}"
        )
    return fraction


def _number(row: Row, name: str, *, finite: bool = True) -> float:
    """A number of a row; a loss may be missing or infinite: that run diverged."""
    value = row[name]
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{row['row']}: {name} {value!r} is no number: write it in digits, without a unit or a "
            "separator of thousands"
        ) from error
    if finite and math.isnan(number):
        raise UserError(f"{row['row']} has no {name}: fill it in, or leave the row out")
    if finite and math.isinf(number):
        raise UserError(f"{row['row']}: {name} {number} is not finite: mend it, or drop the row")
    return number


def _above_zero(row: Row, name: str) -> float:
    number = _number(row, name)
    if number <= 0:
        raise UserError(f"{row['row']}: {name} {number:.15g} is not above 0")
    return number


def _loss(row: Row, name: str) -> float:
    loss = _number(row, name, finite=False)
    if loss <= 0:
        raise UserError(
            f"{row['row']}: {name} {loss:.15g} is not above 0, as a negative log-likelihood is; "
            "leave the cell empty where nothing was measured"
        )
    return loss


def _whole(row: Row, name: str) -> int:
    number = _number(row, name)
    if number != int(number):
        raise UserError(f"{row['row']}: {name} {number:.15g} is no whole number")
    try:
        return int(row[name])  # a float has no room for a seed of 64 bits
    except ValueError:  # text, as "8.0"
        return int(number)
