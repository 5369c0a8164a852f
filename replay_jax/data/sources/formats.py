"""Documents in files: plain text, JSON lines and Parquet.

A reader gives texts in stored order; what is no text (a line that is not JSON, a missing field,
invalid UTF-8) comes as the `UserError` that says so, for the caller to raise or to pass over.
A file that cannot be read on is always an error.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from replay_jax.data.conversations.marked import Marked, Taker, TextField, UnfitTemplate
from replay_jax.data.sources.files import BLOCK_BYTES
from replay_jax.errors import UserError
from replay_jax.extras import needed

Texts = Iterator[str | Marked | UserError]
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}".encode()  # byte-order mark: of the file, not of its text


def read_text(file: IO[bytes], path: Path, separator: str, *, first: int, cut: bool) -> Texts:
    """Documents of UTF-8 text: all of it, or the pieces between separators.

    With a separator the file is read in blocks and never held whole.

    Args:
        file: the bytes from `first` on.
        path: for messages.
        separator: "" for none.
        first: where in the (uncompressed) file the bytes begin.
        cut: whether they end in a separator that more documents follow.
    """
    lines = 0
    for data in _between(file, separator.encode(), path):
        if first == 0 and lines == 0:
            data = data.removeprefix(_MARK)
        if data or not cut:
            yield _decoded(data, path, first, lines)
        lines += data.count(b"\n") + separator.count("\n")


class Line(NamedTuple):
    """A line of a file, as it is named in messages; it is counted only then."""

    path: Path
    first: int
    number: int

    def __str__(self) -> str:
        return f"{self.path}, line {_lines_before(self.path, self.first) + self.number + 1}"


def read_json_lines(file: IO[bytes], path: Path, taker: Taker, *, first: int) -> Texts:
    """What is taken of each JSON line; blank lines are passed over."""
    try:
        for number, line in enumerate(file):
            if first == number == 0:
                line = line.removeprefix(_MARK)
            if line.strip():
                yield _text_of_line(Line(path, first, number), line, taker)
    except (EOFError, OSError) as error:
        raise _unreadable(path, error) from error


def taken(record: object, taker: Taker, where: object) -> str | Marked | UserError:
    """What is taken of a record, or what is wrong with it; raises only what is no fault of it."""
    try:
        if not isinstance(record, dict):
            raise UserError(f"expected a JSON object, found {type(record).__name__}")
        return taker.text(record, where)
    except UnfitTemplate as error:
        raise UnfitTemplate(f"{where}: {error}") from error
    except UserError as error:
        return UserError(f"{where}: {error}")


def read_parquet(path: Path, taker: Taker, *, first: int, stop: int | None) -> Texts:
    """What is taken of the rows of row groups [first, stop) of a Parquet file.

    Raises UserError where the file is no Parquet file or has no such columns of text, or the extra
    is not installed.
    """
    row, arrow = 0, _arrow()
    try:
        with arrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            wanted = None if taker.fields is None else list(taker.fields)
            for name in wanted or ():
                if name not in names:
                    raise UserError(f"{path} has no column {name!r}; its columns are {names}")
            groups = list(range(table.num_row_groups))
            row = sum(table.metadata.row_group(group).num_rows for group in groups[:first])
            for batch in table.iter_batches(1024, groups[first:stop], wanted):
                if isinstance(taker, TextField):
                    yield from _texts_of_column(path, row, taker.name, batch)
                else:
                    yield from _texts_of_rows(path, row, taker, batch)
                row += batch.num_rows
    except UserError:
        raise
    except (
        arrow.ArrowException,
        OSError,
        UnicodeDecodeError,
    ) as error:  # names are text
        raise _unreadable(path, error) from error


def parquet_cuts(path: Path, size: int) -> list[tuple[int, int, int]]:
    """Ranges [first, stop) of row groups with about `size` bytes of data each, and those bytes.

    Raises UserError where the file is no Parquet file, or the extra is not installed.
    """
    arrow = _arrow()
    try:
        metadata = arrow.parquet.read_metadata(path)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    cuts, first, held = [], 0, 0
    for group in range(metadata.num_row_groups):
        held += metadata.row_group(group).total_byte_size
        if held >= size or group == metadata.num_row_groups - 1:
            cuts.append((first, group + 1, held))
            first, held = group + 1, 0
    return cuts


def parquet_bytes(path: Path, first: int, stop: int) -> list[tuple[int, int]]:
    """Byte ranges that decide what row groups [first, stop) hold: their own and the footer's."""
    metadata = _arrow().parquet.read_metadata(path)
    size = path.stat().st_size
    footer = size - metadata.serialized_size - 8
    begins = [_group_start(metadata.row_group(group)) for group in range(metadata.num_row_groups)]
    return [(begins[first], [*begins, footer][stop]), (footer, size)]


def _arrow() -> Any:
    needed("pyarrow.parquet", "parquet", "reading Parquet")
    return needed("pyarrow", "parquet", "reading Parquet")


def _group_start(group: Any) -> int:
    columns = [group.column(number) for number in range(group.num_columns)]
    return min(c.dictionary_page_offset or c.data_page_offset for c in columns)


def _texts_of_column(path: Path, row: int, name: str, batch: Any) -> Texts:
    for number, text in enumerate(_column(batch.column(0)), row):
        if text is None or isinstance(text, str):
            yield text or ""
        elif isinstance(text, bytes):
            yield UserError(f"{path}, row {number}: column {name!r} is not valid UTF-8")
        else:
            raise UserError(f"{path}: column {name!r} holds {type(text).__name__}, not text")


def _texts_of_rows(path: Path, row: int, taker: Taker, batch: Any) -> Texts:
    for number in range(batch.num_rows):
        where = f"{path}, row {row + number}"
        try:
            (record,) = batch.slice(number, 1).to_pylist()
        except UnicodeDecodeError:
            yield UserError(f"{where}: not valid UTF-8")
        else:
            yield taken(record, taker, where)


def _column(column) -> list:  # type: ignore[no-untyped-def]
    """Values of an Arrow column; where one is no Unicode, that one as bytes."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_decoded_or_not(value) for value in column.cast("binary").to_pylist()]


def _decoded_or_not(value: bytes | None) -> str | bytes | None:
    try:
        return value if value is None else value.decode()
    except UnicodeDecodeError:
        return value


def _between(file: IO[bytes], separator: bytes, path: Path) -> Iterator[bytes]:
    """The bytes between separators, each piece of the file looked at once."""
    try:
        if not separator:
            yield file.read()
            return
        pending, looked = bytearray(), 0
        while block := file.read(BLOCK_BYTES):
            pending += block
            start = 0
            while (at := pending.find(separator, max(start, looked))) >= 0:
                yield bytes(pending[start:at])
                start = looked = at + len(separator)
            del pending[:start]
            looked = max(0, len(pending) - len(separator) + 1)
        yield bytes(pending)
    except (EOFError, OSError) as error:
        raise _unreadable(path, error) from error


def _decoded(data: bytes, path: Path, first: int, lines: int) -> str | UserError:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = _lines_before(path, first) + lines + data.count(b"\n", 0, error.start) + 1
        why = (
            "the file ends inside a character"
            if error.reason == "unexpected end of data"
            else f"byte 0x{data[error.start]:02x}"
        )
        return UserError(f"{path}, line {line}: not valid UTF-8 ({why})")


def _text_of_line(where: Line, line: bytes, taker: Taker) -> str | Marked | UserError:
    try:
        # Twice as fast as `json`; what it refuses (NaN, depth), `json` decides.
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        record = _decided_by_json(line)
    if isinstance(record, UserError):
        return UserError(f"{where}: {record}")
    return taken(record, taker, where)


def _decided_by_json(line: bytes) -> object:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        return UserError(f"not valid UTF-8 (byte 0x{line[error.start]:02x})")
    except RecursionError:
        return UserError("JSON that is nested too deeply to be read")
    except ValueError as error:
        return UserError(f"not valid JSON ({error})")


def _lines_before(path: Path, first: int) -> int:
    """Lines before a byte of a file; only counted for a message."""
    found = 0
    if first:
        with path.open("rb") as file:
            while first and (block := file.read(min(first, BLOCK_BYTES))):
                found += block.count(b"\n")
                first -= len(block)
    return found


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read: {error}")
