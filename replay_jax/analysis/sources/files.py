"""Tables of runs in files: CSV, JSON lines, Parquet."""

import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from replay_jax.analysis.sources.columns import Columns, nameless, of_one_kind
from replay_jax.errors import UserError
from replay_jax.extras import needed

# What programs write where a number lacks.
_MISSING = frozenset(("", "NA", "N/A", "#N/A", "n/a", "<NA>", "NULL", "null", "None", "NaN", "nan"))
# Numbers where a comma is the decimal point; and where a point sets thousands apart, or is one.
_DECIMAL = re.compile(r"\s*[+-]?\d*,\d+(e[+-]?\d+)?\s*", re.IGNORECASE)
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(\.\d{3})+(,\d+)?\s*")
_TRUTH = {"true": True, "false": False}


def read_table(path: Path) -> Columns:
    """Read a CSV, JSON lines or Parquet file as columns by name.

    Raises UserError if it is none of them or not there, or Parquet without the extra that reads it.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise UserError(
            f"{path}: runs are read from {', '.join(_READERS)} files, TensorBoard folders and "
            "--wandb=ENTITY/PROJECT: unpack it, or save it as one of these"
        )
    try:
        columns = _READERS[suffix](path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read: it is no UTF-8 text; save it as UTF-8") from error
    except (csv.Error, OSError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {str(error).strip()}") from error
    if not any(columns.values()):
        raise UserError(f"{path} holds no run")
    return columns


def _read_csv(path: Path) -> Columns:
    """Cells below a row of names; what a column holds is told from all its cells.

    They lie between commas; or between semicolons or tabs where the row of names has no comma, and
    a comma in a number is then its decimal point.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        likely = "\t,;" if path.suffix.lower() == ".tsv" else ",;\t"
        between = next((d for d in likely if d in first), ",")
        file.seek(0)
        reader = csv.reader(file, strict=True, delimiter=between, skipinitialspace=True)
        rows = [(reader.line_num, row) for row in reader if row]
    (_, names), *lines = rows or [(0, [])]
    for number, row in lines:
        if len(row) != len(names):
            raise ValueError(f"line {number} has {len(row)} cells, the first {len(names)}")
    cells = zip(*(row for _, row in lines), strict=True) if lines else [()] * len(names)
    columns: list[Sequence[str]] = list(cells)
    if between != "," and any(map(_DECIMAL.fullmatch, itertools.chain(*columns))):
        columns = [list(map(_with_point, column)) for column in columns]
    return _named(names, map(_told, columns))


def _with_point(cell: str) -> str:
    """A cell with a decimal point for its comma."""
    if _THOUSANDS.fullmatch(cell):
        raise ValueError(f"numbers have decimal commas, so {cell.strip()!r} may be two: write it "
                         "without a point")  # fmt: skip
    return cell.replace(",", ".") if _DECIMAL.fullmatch(cell) else cell


def _told(cells: Sequence[str]) -> list[Any]:
    """Cells as whole numbers, numbers or truth where all that are filled are such, else text.

    None is what lacks, in every kind of column.
    """
    given = [cell for cell in map(str.strip, cells) if cell not in _MISSING]
    readers: tuple[Callable[[str], Any], ...] = (int, float, lambda cell: _TRUTH[cell.lower()])
    for read in readers:
        try:
            if any("_" in cell for cell in given):  # Python's own digits, nobody else's
                break
            values = iter([read(cell) for cell in given])
        except (KeyError, ValueError):
            continue
        return [None if cell.strip() in _MISSING else next(values) for cell in cells]
    return [None if cell.strip() in _MISSING else cell for cell in cells]


def _read_json_lines(path: Path) -> Columns:
    """Objects, one a line, as columns of all their names; what a row lacks is None."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    rows = [_object(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: of_one_kind(name, [row.get(name) for row in rows]) for name in names}


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number}, column {error.colno}: {error.msg}") from error
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is no JSON object")
    return row


def _read_parquet(path: Path) -> Columns:
    arrow, parquet = (
        needed(module, "parquet", "reading Parquet") for module in ("pyarrow", "pyarrow.parquet")
    )
    try:
        table = parquet.read_table(path)
        table.validate(full=True)  # text that is no UTF-8
        columns = _named(table.column_names, (column.to_pylist() for column in table.columns))
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error
    for name, values in columns.items():
        if any(isinstance(value, bytes) for value in values):
            raise ValueError(f"column '{name}' is no UTF-8 text")
    return columns


def _named(names: Sequence[str], columns: Iterable[list[Any]]) -> Columns:
    for number, name in enumerate(names):
        if name in names[:number] and not nameless(name):
            raise ValueError(
                f"two columns have one name, {name!r}, or the first row is no row of names"
            )
    return dict(zip(names, columns, strict=True))  # of several without a name one will do


_READERS: Mapping[str, Callable[[Path], Columns]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
}
