"""What is written is whole: small files replaced, folders filled by one process at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.errors import UserError
from replay_jax.progress import stage

_LOCK_NAME = "lock"
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_BLOCK = 1 << 20  # bytes
_UNFIT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTEMPTY, errno.ESTALE)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    found, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    with path.open("rb") as file, stage(f"reading {path.name}", path.stat().st_size) as advance:
        while size := file.readinto(block):
            found.update(block[:size])
            advance(size)
    return found.hexdigest()


def json_sha256(said: Mapping[str, Any]) -> str:
    """SHA-256 of an object of JSON, whatever the order of its parts."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def read_only_allowed() -> Iterator[None]:
    """Do without writing what would only save work, on a share that is only read."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise


def write_durably(path: Path, text: str) -> None:
    """Replace a small text file in one step: a reader sees the old or the new, never half."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class HashingFile:
    """A new file that is hashed as it is written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=1 << 20)
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, values: np.ndarray) -> None:
        """Append numbers as they lie in memory."""
        data = np.ascontiguousarray(values).view(np.uint8).data
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def finish(self) -> tuple[int, str]:
        """Make it durable; its bytes and its SHA-256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._bytes, self._digest.hexdigest()

    def close(self) -> None:
        """Close it, finished or not."""
        self._file.close()


@contextlib.contextmanager
def claimed(partial: Path, finished: Path, *, wait: bool) -> Iterator[bool]:
    """The sole right to fill `partial`, which is done when there is a file `finished`.

    Gives True with `partial` there, and whatever an interrupted process left in it removed;
    False where another process has the right (without `wait`) or has finished meanwhile. The
    system frees the right of a process that dies.
    """
    while True:
        if finished.exists():
            yield False
            return
        partial.mkdir(parents=True, exist_ok=True)
        try:
            lock = (partial / _LOCK_NAME).open("w")
        except FileNotFoundError:  # just finished by another
            continue
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _is_at(lock.fileno(), partial / _LOCK_NAME):
                continue
            for path in partial.iterdir():
                if path.name != _LOCK_NAME:
                    path.unlink()
            yield True
            return


@contextlib.contextmanager
def in_use(folder: Path, *, alone: bool) -> Iterator[None]:
    """Work in a folder of stores beside others; or `alone`, while others wait.

    Raises UserError where it would be alone and others are at work.
    """
    with (folder / "in_use").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        except BlockingIOError as error:
            raise UserError(f"a preparation is at work in {folder}: wait for its end") from error
        yield


def remove_abandoned(folder: Path) -> None:
    """Remove what interrupted processes left unfinished in a folder and nobody works on."""
    for partial in folder.glob("*.partial"):
        with claimed(partial, partial / "nothing", wait=False) as mine:
            if mine:
                shutil.rmtree(partial)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name; its folder may have been renamed."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def release(folder: Path) -> None:
    """Remove the lock that came along with a finished folder."""
    (folder / _LOCK_NAME).unlink(missing_ok=True)


def sync(paths: list[Path]) -> None:
    """Make files, or what a folder lists, durable."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into a UserError naming it."""
    try:
        yield
    except OSError as error:
        name = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"no space left while writing below {folder}; free some and run again, "
                "finished parts are kept"
            ) from error
        if error.errno in _UNWRITABLE:
            raise UserError(f"{name} cannot be read or written: {error.strerror}") from error
        if error.errno in _UNFIT:
            raise UserError(
                f"{name} is on a disk that does not do what stores need ({error.strerror}); "
                "set data.store_dir to a folder of another disk"
            ) from error
        raise
