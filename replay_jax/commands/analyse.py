"""The command `analyse`: a table of anybody's runs in, the answer and a report out; no JAX."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.csv
import pyarrow.parquet
from rich.console import Console

from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.frame import runs_of_frame
from replay_jax.errors import UserError
from replay_jax.report.advice import advise, by_target
from replay_jax.report.drawing import draw_figures
from replay_jax.report.foreign import foreign_advice, foreign_page
from replay_jax.report.html import render_page, write_pictures, write_whole
from replay_jax.report.terminal import terminal_table
from replay_jax.strict import literal


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


def analyse(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print the answer (or its JSON) and write a report into a folder beside the table."""
    path = Path(os.path.expanduser(arguments.runs))
    runs = runs_of_frame(
        read_table(path),
        reference=_reference(arguments.reference),
        tuned=_list(arguments.tuned),
        axes=_list(arguments.axes),
        ignore=_list(arguments.ignore),
        level=arguments.level,
    )
    study = analyse_anyway(runs.records, runs.config)
    advice = foreign_advice(
        advise(study, complete=True, second_opinion=arguments.second_opinion),
        has_generic=runs.has_generic,
    )
    page = foreign_page(
        runs.records, study, advice, name=path.name, notes=runs.notes, has_generic=runs.has_generic
    )
    folder = path.with_name(f"{path.stem}_report")
    try:
        drawings = draw_figures(page.figures())
        write_pictures(drawings, folder / "figures")
        write_whole(folder / "report.html", render_page(page, drawings).encode())
    except OSError as error:
        raise UserError(f"the report cannot be written into {folder}: {error.strerror}") from error
    if arguments.json:
        print(json.dumps(by_target(advice)))
        return 0
    console = Console()
    shown = terminal_table(study, advice, runs.records, generic=runs.has_generic)
    console.print(shown)
    for note in runs.notes:
        console.print(f"note: {note}", highlight=False)
    console.print(f"report:  {folder / 'report.html'}", highlight=False)
    return 0


def read_table(path: Path) -> pyarrow.Table:
    """Read a CSV, JSON lines or Parquet file; raises UserError if it is none of them."""
    if path.suffix not in _READERS:
        raise UserError(f"{path}: runs are read from {', '.join(_READERS)} files")
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


def _reference(given: Sequence[str] | None) -> dict[str, Any] | None:
    """`column=value` words as a mapping; None for none."""
    if not given:
        return None
    found: dict[str, Any] = {}
    for word in given:
        column, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"--reference={word} is not of the form column=value")
        found[column] = literal(value)
    return found


def _list(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",") if word.strip())
