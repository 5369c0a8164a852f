"""Which files a path names, their bytes or objects, and large ones cut at document borders."""

import bz2
import glob
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from replay_jax.errors import UserError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_BYTES = 1 << 20
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_ESCAPED_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a surrogate pair, perhaps a whole one


def expand_paths(pattern: str) -> list[Path]:
    """The files a path or glob names, sorted, each once; a folder means every file below it.

    Links are followed. Hidden files and folders of a folder are no text, nor are its empty
    markers such as _SUCCESS.
    Raises UserError where nothing matches, a file is empty or a link leads nowhere.
    """
    paths = found_paths(pattern)
    if not paths and Path(pattern).expanduser().is_dir():
        raise UserError(f"{pattern} is a folder without files (hidden and empty markers aside)")
    if not paths:
        raise UserError(f"no file matches {pattern!r} (working directory {Path.cwd()})")
    for path in paths:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); remove it or point to the right file")
    return paths


def found_paths(pattern: str) -> list[Path]:
    """As `expand_paths`, but nothing may match; raises UserError for a link that leads nowhere."""
    place = Path(pattern).expanduser()
    if place.is_dir():
        matches = list(_files_below(str(place), ()))
    elif place.exists():
        matches = [str(place)]
    else:
        matches = glob.glob(_escaped(str(place)), recursive=True)
    for match in matches:
        if os.path.islink(match) and not os.path.exists(match):
            raise UserError(
                f"{match} is a link to {os.readlink(match)}, which is not there; bring the file "
                "or remove the link"
            )
    return [Path(match) for match in sorted(set(matches), key=Path) if os.path.isfile(match)]


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, decompressing .gz, .bz2, .xz and .zst by their ending.

    Reading raises EOFError or OSError where the file is cut off or damaged.
    """
    return _decompressed(path.open("rb"), path.suffix)


def compressed(path: Path) -> bool:
    """Whether a file can only be read from its beginning."""
    return path.suffix in _COMPRESSED


class HashedFile(io.RawIOBase):
    """The bytes [first, stop) of a file, hashed as they are read.

    `decoded` reads them decompressed; `hexdigest` is of the raw bytes, those not asked for
    included.
    """

    def __init__(self, path: Path, first: int, stop: int | None) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._file.seek(first)
        self._left = None if stop is None else stop - first
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        """As files have it."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        """As files have it."""
        view = memoryview(buffer).cast("B")
        count = self._file.readinto(view if self._left is None else view[: self._left]) or 0
        self._digest.update(view[:count])
        if self._left is not None:
            self._left -= count
        return count

    def decoded(self) -> IO[bytes]:
        """The bytes, decompressed by the file's ending."""
        return _decompressed(self, self._path.suffix)

    def hexdigest(self) -> str:
        """SHA-256 of the whole range; reads what is left of it."""
        block = bytearray(BLOCK_BYTES)
        while self.readinto(block):
            pass
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def cut_at(path: Path, mark: bytes, size: int) -> list[tuple[int, int]]:
    """Byte ranges of about `size` bytes that end after a `mark`, where a document ends.

    Reads some kilobytes at each cut. The documents are those of the uncut file: a mark that
    may be read in two ways (the second line feed of three, for a mark of two) is no place to cut.
    """
    total = path.stat().st_size
    borders = [0]
    with path.open("rb") as file:
        while total - borders[-1] > 1.5 * size:
            border = _after_mark(file, mark, borders[-1] + size)
            if border is None or border >= total:
                break
            borders.append(border)
    return list(zip(borders, [*borders[1:], total], strict=True))


def _after_mark(file: IO[bytes], mark: bytes, start: int) -> int | None:
    """Where the first unmistakable mark that begins at `start` or later ends."""
    before = len(mark) - 1
    start = max(0, start - before)
    file.seek(start)
    text = file.read(BLOCK_BYTES)
    at = text.find(mark, before)
    while True:
        if at >= 0 and mark not in text[max(0, at - before) : at + before]:
            return start + at + len(mark)
        if at < 0:
            block = file.read(BLOCK_BYTES)
            if not block:
                return None
            kept = text[-2 * len(mark) :]
            start, text = start + len(text) - len(kept), kept + block
            at = text.find(mark, before)
        else:
            at = text.find(mark, at + 1)


def _files_below(folder: str, inside: tuple[str, ...]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in inside:  # a link to a folder that holds it
        return
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files_below(entry.path, (*inside, real))
        elif not (entry.name.startswith("_") and entry.is_file() and entry.stat().st_size == 0):
            yield entry.path


def _escaped(pattern: str) -> str:
    """The pattern with the folders that are really there taken by the letter."""
    parts = Path(pattern).parts
    there = ""
    for number, part in enumerate(parts):
        if not os.path.exists(os.path.join(there, part)):
            return os.path.join(glob.escape(there), *parts[number:])
        there = os.path.join(there, part)
    return glob.escape(there)


def read_objects(path: Path, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a file, each with where it stands; also .gz and .zst.

    Raises UserError where there is no such file, it cannot be read, or it has no object.
    """
    if not path.is_file():
        raise UserError(f"no file of {what} '{path}'")
    found = False
    try:
        for where, value in _values(path):
            found = True
            if not isinstance(value, dict):
                raise UserError(f"{where}: {type(value).__name__}, not a JSON object")
            yield where, value
    except (EOFError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not found:
        raise UserError(f"{path} has no {what}")


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    with open_binary(path) as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1 and line.lstrip().startswith(b"["):
                whole = _json(line + lines.read(), str(path))
                yield from ((f"{path}, record {n}", each) for n, each in enumerate(whole, start=1))
                return
            if line.strip():
                where = f"{path}, line {number}"
                yield where, _json(line, where)


def _json(data: bytes, where: str) -> Any:
    try:
        value = json.loads(data)
        if _ESCAPED_HALF.search(data):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair, which is not text") from error
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # no JSON, nested without end
        raise UserError(f"{where}: not JSON ({error})") from error


class _Decompressed(io.RawIOBase):
    """A decompressor whose libraries' own errors come as OSError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._inner = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        try:
            block = self._inner.read(len(buffer))
        except (zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
            raise OSError(f"damaged: {error}") from error
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._inner.close()
        super().close()


def _decompressed(file: io.RawIOBase | IO[bytes], ending: str) -> IO[bytes]:
    raw: IO[bytes]
    if ending == ".gz":
        raw = gzip.GzipFile(fileobj=file)  # type: ignore[assignment, arg-type]
    elif ending == ".bz2":
        raw = bz2.BZ2File(file)  # type: ignore[arg-type, assignment]
    elif ending == ".xz":
        raw = lzma.LZMAFile(file)  # type: ignore[arg-type, assignment]
    elif ending == ".zst":
        raw = zstd.ZstdFile(file)  # type: ignore[assignment, arg-type]
    else:
        return io.BufferedReader(file, BLOCK_BYTES) if isinstance(file, io.RawIOBase) else file
    return io.BufferedReader(_Decompressed(raw), BLOCK_BYTES)
