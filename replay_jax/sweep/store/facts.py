"""JSON facts on disk, each written whole or not at all.

A fact is one file. On a file system it is written beside its place, flushed and renamed, so a
process killed at any instant leaves the old fact or the new one; an object store (gs://, through
etils) writes whole objects by itself.
"""

import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from etils import epath

from replay_jax.errors import UserError
from replay_jax.shape import misshapen
from replay_jax.sweep.store.kinds import is_transient
from replay_jax.sweep.store.sealing import SEALED_FOLDERS, is_as_sealed, is_sealed

# Seconds between tries where storage has a fault that may pass.
PAUSES = (0.5, 2.0, 8.0)
_SIDE_BY_SIDE = 32
_Found = TypeVar("_Found")
_TEMPORARY = ".tmp-"


def write_fact(path: epath.PathLike, value: Any) -> None:
    """Write plain nested values as one JSON file, atomically; missing folders are made."""
    write_text(path, json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n")


def write_text(path: epath.PathLike, text: str) -> None:
    """Write a text file atomically; missing folders are made.

    Raises:
        UserError: the place cannot be written to (permissions, full disk, a bucket that is away).
    """
    place = epath.Path(path)

    def write() -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if "://" in os.fspath(place):
            place.write_text(text)
        else:
            _write_and_rename(Path(place), text.encode())

    try:
        patiently(write)
    except Exception as error:
        if not isinstance(error, OSError) and not is_transient(error):
            raise
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {place}: {why}") from error


def patiently(action: Callable[[], _Found]) -> _Found:
    """What an action on storage gives; a fault that may pass is waited for, a few times."""
    for seconds in PAUSES:
        try:
            return action()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(seconds)
    return action()


def read_fact(path: epath.PathLike) -> Any | None:
    """The values of a fact, or None where there is none.

    Raises:
        UserError: the file is not JSON, so something else wrote it.
    """
    content = _content(path)
    return None if content is None else _parsed(path, content)


def _content(path: epath.PathLike) -> bytes | None:
    try:
        return patiently(epath.Path(path).read_bytes)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:  # a name out of a damaged fact that can be none
        raise UserError(f"there is no file {str(path)!r}: {error}") from error


def _parsed(path: epath.PathLike, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)) from error


def damaged(path: epath.PathLike, why: str) -> UserError:
    """The error that names a fact that nobody wrote so."""
    cure = "delete it to compute it again"
    if epath.Path(path).parent.name == "evaluations":
        cure += ", or, where its state is gone, to leave its point out of the curve"
    return UserError(f"{path} is damaged ({why}): {cure}")


def read_object(
    path: epath.PathLike, shape: Any, *, changed: bool = False
) -> dict[str, Any] | None:
    """A fact that is an object with these parts (`shape.misshapen`), or None where there is none.

    Raises:
        UserError: the file is not JSON, lacks a part, or has a checksum that is not its own, unless
            it may be `changed`.
    """
    content = _content(path)
    if content is None:
        return None
    fact: dict[str, Any] = _parsed(path, content)
    if wrong := misshapen(fact, shape):
        raise damaged(path, wrong)
    if not changed and is_sealed(fact) and not is_as_sealed(fact):
        raise damaged(path, "it was changed after it was written")
    return fact


def read_objects(
    paths: Sequence[epath.Path], shape: Any, *, changed: bool = False
) -> list[dict[str, Any] | None]:
    """Several facts in their order; from a bucket, which takes its time for each, side by side."""

    def read(path: epath.Path) -> dict[str, Any] | None:
        return read_object(path, shape, changed=changed)

    if not paths or "://" not in os.fspath(paths[0]):
        return [read(path) for path in paths]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        return list(pool.map(read, paths))


def changed_facts(root: epath.Path) -> list[str]:
    """Spans, evaluations and results of a working directory that are not what was written."""
    found = []
    for folder in (*SEALED_FOLDERS, "results"):
        for name in fact_names(root / folder):
            fact = read_fact(root / folder / f"{name}.json")
            # Results of versions before this one have no checksum.
            if not is_as_sealed(fact) and (folder != "results" or is_sealed(fact)):
                found.append(f"{folder}/{name}.json")
    return found


def fact_names(folder: epath.PathLike) -> list[str]:
    """Names, without their ending, of the facts in a folder; none if there is no folder."""
    place = epath.Path(folder)
    if not place.exists():
        return []
    return sorted(
        item.name.removesuffix(".json")
        for item in patiently(lambda: list(place.iterdir()))
        if item.name.endswith(".json") and not item.name.startswith(_TEMPORARY)
    )


def remove_leftovers(folder: epath.PathLike) -> None:
    """Delete temporary files that killed processes left; only the holder of the lock may call."""
    place = epath.Path(folder)
    if place.exists():
        for item in place.iterdir():
            if item.name.startswith(_TEMPORARY):
                item.unlink(missing_ok=True)


def _write_and_rename(place: Path, content: bytes) -> None:
    # Not mkstemp: facts on a shared path are for others to read, as far as the umask allows.
    temporary = str(place.parent / f"{_TEMPORARY}{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    # Without this a power cut could undo the rename after others have relied on it.
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
