"""Files of token ids as other programs leave them: Megatron's .bin with .idx, and NumPy's .npy.

Megatron: `.bin` has the ids of all sequences one after another; `.idx` has "MMIDIDX\\0\\0", the
version (uint64, 1), a code for the ids' type (uint8), the number of sequences and of document
borders (uint64 both), then the length of each sequence (int32), the byte of `.bin` at which it
begins (int64), and the border of each document in sequences, a 0 first (int64). Little-endian.
`.npy`: one stream, or rows that are a document each.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replay_jax.data.sources.files import expand_paths, found_paths
from replay_jax.errors import UserError

_MAGIC = b"MMIDIDX\0\0"
_HEADER = struct.Struct("<9sQBQQ")
_TYPES = {1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
_BLOCK = 1 << 22  # ids


@dataclass(frozen=True)
class TokenFile:
    """Ids that lie one after another in a file.

    path, offset: of the file, and the byte at which they begin.
    ids: all of them, as a read-only memory map of any integer type.
    ends: int64[documents], where the file says that each ends; None where it does not.
    """

    path: Path
    offset: int
    ids: np.ndarray
    ends: np.ndarray | None

    def borders(self, eos_id: int) -> Iterator[tuple[int, int]]:
        """First and last border of each document, the end-of-text ids that follow it included.

        Documents end where the file says so and at end-of-text ids, of which several in a row
        end one.
        """
        start = 0
        for first in range(0, len(self.ids), _BLOCK):
            last = min(first + _BLOCK, len(self.ids))
            is_end = np.append(self.ids[first : last + 1] == eos_id, False)
            ends = np.flatnonzero(is_end[: last - first] & ~is_end[1 : last - first + 1])
            ends = np.union1d(ends + first + 1, self._given(first, last))
            for end in ends[ends > start].tolist():
                yield start, end
                start = end
        if start < len(self.ids):
            yield start, len(self.ids)

    def _given(self, first: int, last: int) -> np.ndarray:
        if self.ends is None:
            return np.empty(0, np.int64)
        low, high = np.searchsorted(self.ends, [first, last], side="right")
        return self.ends[low:high]


def found_token_files(kind: str, pattern: str) -> list[Path]:
    """The files that a path or glob names, each .bin followed by its .idx; nothing may match.

    Megatron's own way to name a pair, without an ending, is understood. Of a folder other files
    are left out.
    """
    if kind == "npy":
        return [path for path in found_paths(pattern) if path.suffix == ".npy"]
    found = [path for path in found_paths(pattern) if path.suffix in (".bin", ".idx")]
    if not found and os.path.isfile(os.path.expanduser(f"{pattern}.bin")):
        found = [Path(f"{pattern}.bin").expanduser()]
    both = sorted({path.with_suffix(".bin") for path in found})
    return [path.with_suffix(ending) for path in both for ending in (".bin", ".idx")]


def token_files(kind: str, pattern: str) -> list[tuple[Path, ...]]:
    """The files that a path or glob names, .bin and .idx together.

    Raises UserError where nothing matches, one of a pair is missing, or a file is empty.
    """
    found = found_token_files(kind, pattern)
    if not found:
        some = ", ".join(str(path) for path in expand_paths(pattern)[:3])
        wanted = ".npy file" if kind == "npy" else ".bin and .idx"
        raise UserError(f"no {wanted} of token ids among {some}: a source of kind {kind!r}")
    for path in found:
        if not path.is_file():
            raise UserError(f"{path} is missing: a .bin of token ids needs its .idx, and that it")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty (0 bytes); remove it or point to the right file")
    if kind == "npy":
        return [(path,) for path in found]
    return list(zip(found[::2], found[1::2], strict=True))


def open_token_file(files: tuple[str, ...]) -> TokenFile:
    """Open an .npy file, or a .bin with its .idx.

    Raises UserError, naming the file, for one that is cut off, is no such file, or holds no ids.
    """
    try:
        opened = _npy(Path(files[0])) if len(files) == 1 else _megatron(*map(Path, files))
    except OSError as error:
        raise UserError(f"{files[0]} cannot be read: {error.strerror or error}") from error
    return opened


def _npy(path: Path) -> TokenFile:
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # of a damaged header NumPy raises what its parser does
        why = str(error).strip().split("\n")[0]
        raise UserError(f"{path} is no whole .npy file: {why}") from error
    if not isinstance(ids, np.memmap):
        raise UserError(f"{path} is an archive of arrays, not one .npy array")
    _check_type(path, ids.dtype)
    if ids.ndim not in (1, 2) or not ids.flags.c_contiguous:
        raise UserError(
            f"{path} has an array of shape {ids.shape}, not one stream or rows of token ids"
        )
    ends = None
    if ids.ndim == 2:
        ends = np.arange(1, len(ids) + 1, dtype=np.int64) * ids.shape[1]
    return TokenFile(path, ids.offset, np.asarray(ids).reshape(-1), ends)


def _megatron(path: Path, index: Path) -> TokenFile:
    dtype, ends = _index(index)
    size, total = path.stat().st_size, int(ends[-1]) if len(ends) else 0
    if size != total * dtype.itemsize:
        raise UserError(
            f"{path} has {size} bytes where {index.name} says {total} ids of {dtype.itemsize} "
            "bytes: one of them is cut off or of another pair"
        )
    ids = np.memmap(path, dtype, "r") if total else np.empty(0, dtype)
    return TokenFile(path, 0, np.asarray(ids), ends)


def _index(path: Path) -> tuple[np.dtype, np.ndarray]:
    """The ids' type, and where each document ends in ids."""
    data = np.fromfile(path, np.uint8)
    if bytes(data[:9]) != _MAGIC:
        raise UserError(f"{path} is no Megatron index: it does not begin with MMIDIDX")
    if len(data) < _HEADER.size:
        raise UserError(f"{path} is cut off: {len(data)} bytes, less than a Megatron index begins")
    _, version, code, sequences, borders = _HEADER.unpack(data[: _HEADER.size].tobytes())
    if version != 1:
        raise UserError(f"{path} is a Megatron index of version {version}, and only 1 is known")
    if code not in _TYPES:
        raise UserError(f"{path} says that its ids are of type {code}, which is not one of 1 to 8")
    dtype = np.dtype(_TYPES[code])
    _check_type(path, dtype)
    wanted = _HEADER.size + 12 * sequences + 8 * borders
    if len(data) != wanted:
        raise UserError(
            f"{path} has {len(data)} bytes where {sequences} sequences and {borders} document "
            f"borders take {wanted}"
        )
    body = data[_HEADER.size :].tobytes()
    lengths = np.frombuffer(body, "<i4", sequences).astype(np.int64)
    pointers = np.frombuffer(body, "<i8", sequences, 4 * sequences)
    documents = np.frombuffer(body, "<i8", borders, 12 * sequences)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    if (lengths < 0).any() or not np.array_equal(pointers, ends[:-1] * dtype.itemsize):
        raise UserError(f"{path} is damaged: its sequences do not follow each other in the .bin")
    if not _are_borders(documents, sequences):
        raise UserError(f"{path} is damaged: its documents are not borders of 0 to {sequences}")
    return dtype, ends[documents[1:]]


def _are_borders(documents: np.ndarray, sequences: int) -> bool:
    if not len(documents) or documents[0] != 0 or documents[-1] != sequences:
        return False
    return bool((np.diff(documents) >= 0).all())


def _check_type(path: Path, dtype: np.dtype) -> None:
    if dtype.kind not in "iu":
        raise UserError(f"{path} holds numbers of type {dtype}, not token ids, which are integers")
