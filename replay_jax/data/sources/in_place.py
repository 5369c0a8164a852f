"""A file of ids that is read where it lies: what it is, for good, and where it is, for now.

Two small files in the folder of the shard that reads it: in_place.json is part of the shard,
place.json is not, so that a file that was moved is pointed at again and nothing else changes.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from replay_jax.data.sources.durable import file_sha256, write_durably
from replay_jax.errors import UserError
from replay_jax.strict import from_plain

IN_PLACE_NAME, PLACE_NAME = "in_place.json", "place.json"


@dataclass(frozen=True)
class InPlace:
    """What the file is.

    dtype, offset, ids: the type of its ids, the byte where they begin, and how many there are.
    digest: `parts.part_digest` of it, with its index where it has one.
    """

    dtype: str
    offset: int
    ids: int
    digest: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[<>|][iu][1248]", self.dtype) or self.offset < 0 or self.ids < 0:
            raise UserError(f"{self.ids} ids of type {self.dtype!r} from byte {self.offset}")


@dataclass(frozen=True)
class Place:
    """Where it is, relative to the folder, with its index where it has one; and their sizes."""

    files: tuple[str, ...]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.files or len(self.files) != len(self.sizes):
            raise UserError(f"{len(self.sizes)} sizes of {len(self.files)} files")


def is_elsewhere(folder: Path) -> bool:
    """Whether a shard has ids that are read in another file."""
    return os.path.exists(folder / IN_PLACE_NAME)


def point_at(folder: Path, files: Sequence[str]) -> None:
    """Say where the file is, and its index, unless that is said already."""
    base = os.path.join(os.path.realpath(folder.parent), folder.name)
    names = [os.path.relpath(file, base) for file in files]
    text = json.dumps({"files": names, "sizes": [os.stat(file).st_size for file in files]}) + "\n"
    path = folder / PLACE_NAME
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_durably(path, text)


def in_place(folder: Path) -> tuple[Path, InPlace]:
    """The file, and what it is; raises UserError where what says so is damaged."""
    path = folder / IN_PLACE_NAME
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return _placed(folder)[0][0], from_plain(InPlace, stored, path=IN_PLACE_NAME)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} or its {PLACE_NAME} is damaged ({error}); delete {folder} and prepare again"
        ) from error


def size_differences(folder: Path) -> Iterator[str]:
    """What is wrong with the file, and its index, by their sizes."""
    try:
        placed = _placed(folder)
    except (OSError, ValueError, RecursionError) as error:  # UserError is a ValueError
        yield f"{folder / PLACE_NAME} cannot be read: {error}"
        return
    for path, size in placed:
        if not os.path.exists(path):
            yield f"{path} is missing (bring it back), and the tokens are read in it"
        elif (found := path.stat().st_size) != size:
            yield f"{path} has {found} bytes where it had {size}, and the tokens are read in it"


def content_difference(folder: Path) -> str | None:
    """What is wrong with the file, and its index; reads all of both."""
    if not is_elsewhere(folder):
        return None
    if wrong := next(size_differences(folder), None):
        return wrong
    try:
        path, known = in_place(folder)
    except UserError as error:
        return str(error)
    hashes = b"".join(bytes.fromhex(file_sha256(file)) for file, _ in _placed(folder))
    if hashlib.sha256(hashes).hexdigest() != known.digest:
        return f"{path} was altered since it was prepared, and the tokens are read in it"
    return None


def _placed(folder: Path) -> list[tuple[Path, int]]:
    stored = json.loads((folder / PLACE_NAME).read_text(encoding="utf-8"))
    place = from_plain(Place, stored, path=PLACE_NAME)
    base = os.path.realpath(folder)
    names = [Path(os.path.normpath(os.path.join(base, name))) for name in place.files]
    return list(zip(names, place.sizes, strict=True))
