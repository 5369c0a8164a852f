"""Whatever holds a table becomes columns of plain values: the same from every library and file."""

import decimal
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np

from replay_jax.analysis.sources.columns import Columns
from replay_jax.errors import UserError


def plain_table(frame: Any) -> Columns:
    """Columns by name, each value None, a truth value, a number or text.

    None is what is missing, whatever the library calls it. What is none of these (dates, lists) is
    text, which can be told apart, written and shown.

    Raises:
        UserError: it is no table, a column's name is no text or is there twice, or the columns have
            different lengths, or no row.
    """
    columns = _columns(frame)
    for name in columns:
        if not isinstance(name, str):
            raise UserError(f"names of columns are text, and {name!r} is none: rename the column")
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name}: {len(values)}" for name, values in columns.items())
        raise UserError(f"columns of different lengths ({lengths}) are no table")
    if not any(map(len, columns.values())):
        raise UserError("the table holds no run")
    return {name: list(map(_plain, values)) for name, values in columns.items()}


def _columns(frame: Any) -> dict[Any, Sequence[Any]]:
    if isinstance(frame, Mapping):
        for name, values in frame.items():
            if isinstance(values, str | Mapping) or not hasattr(values, "__len__"):
                raise UserError(f"column {name!r} is {_kind(values)} and no list of values")
        return dict(frame)
    if hasattr(frame, "collect"):
        raise UserError(f"{_kind(frame)} has no rows yet: give frame.collect()")
    try:
        return dict(nw.from_native(frame, eager_only=True).to_dict(as_series=False))
    except nw.exceptions.DuplicateError as error:
        raise UserError(
            "two columns have one name, or the first row is no row of names: "
            f"{' '.join(str(error).split())}"
        ) from error
    except TypeError as error:
        raise UserError(
            f"{_kind(frame)} is no table of runs: give a frame of pandas, polars or pyarrow, or a "
            "dict of lists by the columns' names"
        ) from error


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.number | np.bool_):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | decimal.Decimal):
        return None if math.isnan(value) else float(value)
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, default=str, sort_keys=True)
    try:
        missing = bool(value != value)
    except TypeError:  # the NA of pandas has no truth value
        missing = True
    return None if missing else str(value)
