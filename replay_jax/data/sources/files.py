"""Documents from files: plain text, JSON lines and Parquet, compressed or not."""

import glob
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow
from pyarrow import ArrowException, parquet

from replay_jax.errors import UserError

_READ_BYTES = 1 << 20


def expand_paths(pattern: str) -> list[Path]:
    """The files a path or glob names, sorted; a directory means every file below it.

    Raises UserError where nothing matches or a file is empty.
    """
    if Path(pattern).is_dir():
        matches = [path for path in Path(pattern).rglob("*") if path.is_file()]
    else:
        matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    paths = sorted(path for path in matches if path.is_file())
    if not paths:
        raise UserError(f"no file matches {pattern!r} (working directory {Path.cwd()})")
    for path in paths:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); remove it or point to the right file")
    return paths


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, decompressing .gz and .zst by their ending."""
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix == ".zst":
        # Arrow's reader, because it notices a stream that was cut off.
        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), _READ_BYTES)
    return path.open("rb")


def read_text_file(path: Path, separator: str) -> Iterator[str]:
    """Documents of one UTF-8 text file: the whole file, or the pieces between separators.

    With a separator the file is read in blocks and never held whole.
    Raises UserError for invalid UTF-8, naming the line.
    """
    if not separator:
        yield "".join(_decoded_blocks(path))
        return
    pending = ""
    for block in _decoded_blocks(path):
        *documents, pending = (pending + block).split(separator)
        yield from documents
    yield pending


def read_json_lines(path: Path, text_field: str) -> Iterator[str]:
    """The text field of each JSON line; blank lines are passed over.

    Raises UserError naming file and line for bad UTF-8, bad JSON or a missing field.
    """
    try:
        with open_binary(path) as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _text_of_line(path, number, line, text_field)
    except (EOFError, OSError) as error:
        raise _unreadable(path, error) from error


def read_parquet(path: Path, text_field: str) -> Iterator[str]:
    """The text column of one Parquet file, read batch by batch; nulls count as empty documents.

    Raises UserError where the file is no Parquet file or has no such text column.
    """
    try:
        with parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            if text_field not in names:
                raise UserError(f"{path} has no column {text_field!r}; its columns are {names}")
            for batch in table.iter_batches(batch_size=1024, columns=[text_field]):
                for text in batch.column(0).to_pylist():
                    if text is not None and not isinstance(text, str):
                        raise UserError(
                            f"{path}: column {text_field!r} holds {type(text).__name__}, not text"
                        )
                    yield text or ""
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: column {text_field!r} is not valid UTF-8 ({error})") from error
    except (ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _decoded_blocks(path: Path) -> Iterator[str]:
    """Decode a file block by block, carrying a code point cut by the block's end."""
    lines_before, carried = 0, b""
    try:
        with open_binary(path) as file:
            while block := file.read(_READ_BYTES):
                block = carried + block
                try:
                    text, carried = block.decode(), b""
                except UnicodeDecodeError as error:
                    if error.reason != "unexpected end of data":
                        raise _not_utf8(path, lines_before, block, error) from error
                    text, carried = block[: error.start].decode(), block[error.start :]
                lines_before += text.count("\n")
                yield text
            if carried:
                raise UserError(
                    f"{path}, line {lines_before + 1}: not valid UTF-8 "
                    "(the file ends inside a character)"
                )
    except (EOFError, OSError) as error:
        raise _unreadable(path, error) from error


def _text_of_line(path: Path, number: int, line: bytes, text_field: str) -> str:
    where = f"{path}, line {number}"
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not valid UTF-8 (byte 0x{line[error.start]:02x})") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(record).__name__}")
    if text_field not in record:
        raise UserError(f"{where}: no field {text_field!r}; the fields are {sorted(record)}")
    text = record[text_field]
    if not isinstance(text, str):
        raise UserError(f"{where}: field {text_field!r} is {type(text).__name__}, not text")
    return text


def _not_utf8(path: Path, lines_before: int, block: bytes, error: UnicodeDecodeError) -> UserError:
    line = lines_before + block.count(b"\n", 0, error.start) + 1
    return UserError(f"{path}, line {line}: not valid UTF-8 (byte 0x{block[error.start]:02x})")


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read: {error}")
