"""Tables of runs in files: CSV, JSON lines, Parquet."""

import json
from pathlib import Path

import pyarrow
import pyarrow.csv
import pyarrow.parquet

from replay_jax.errors import UserError


def _read_json_lines(path: Path) -> pyarrow.Table:
    """Objects, one a line, as a table of all their names; what a row lacks is null.

    Read by Python, as Arrow's own reader (26.0) crashes on a `null` before objects.
    """
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    rows = [json.loads(line) for line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} cannot be read: not every line is a JSON object")
    names = dict.fromkeys(name for row in rows for name in row)
    return pyarrow.table({name: [row.get(name) for row in rows] for name in names})


_READERS = {
    ".csv": pyarrow.csv.read_csv,
    ".jsonl": _read_json_lines,
    ".parquet": pyarrow.parquet.read_table,
}


def read_table(path: Path) -> pyarrow.Table:
    """Read a CSV, JSON lines or Parquet file; raises UserError if it is none of them."""
    if path.suffix not in _READERS:
        raise UserError(
            f"{path}: runs are read from {', '.join(_READERS)} files, TensorBoard folders and "
            "--wandb=ENTITY/PROJECT"
        )
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        table = _READERS[path.suffix](path)
        table.validate(full=True)  # text that is no UTF-8 would be met later
        names = table.column_names
    except UserError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {str(error).strip()}") from error
    for field in table.schema:
        # Arrow keeps what is no UTF-8 as bytes, and in names replaces it.
        if pyarrow.types.is_binary(field.type) or "\N{REPLACEMENT CHARACTER}" in field.name:
            raise UserError(f"{path} cannot be read: column '{field.name}' is no UTF-8 text")
    if not names or not table.num_rows:
        raise UserError(f"{path} holds no run")
    return table
