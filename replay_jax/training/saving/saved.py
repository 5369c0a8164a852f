"""Folders of saved states: which are whole, what they say, and how they go. Free of JAX.

`checkpoint` writes and reads the arrays in them.
"""

import errno
import json
import os
from typing import Any

from etils import epath

from replay_jax.errors import UserError

Meta = dict[str, Any]
META = "meta"
CHECKSUMS = "checksums"
# Orbax writes this file when all else is written, and then renames where renaming is atomic.
_COMMIT = "commit_success.txt"
_UNFINISHED = ".orbax-checkpoint-tmp"


class DamagedCheckpoint(UserError):
    """A checkpoint that is incomplete, unreadable or of another shape than asked for."""


def read_meta(path: epath.PathLike) -> Meta:
    """Read a checkpoint's JSON object alone. Raises DamagedCheckpoint if that is impossible."""
    path = epath.Path(path)
    if not is_complete(path):
        raise DamagedCheckpoint(f"There is no complete checkpoint at '{path}'.")
    try:
        meta = json.loads((path / META / "metadata").read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(meta, dict):
        raise damaged(path, TypeError(f"{META} is no JSON object"))
    return meta


def is_complete(path: epath.PathLike) -> bool:
    """Whether a directory is a finished checkpoint; an interrupted save is not."""
    path = epath.Path(path)
    return _UNFINISHED not in path.name and (path / _COMMIT).exists()


def delete(path: epath.PathLike) -> None:
    """Delete a checkpoint if it exists; from the first moment on it is no longer complete."""
    path = epath.Path(path)
    if not path.exists():
        return
    (path / _COMMIT).unlink(missing_ok=True)
    path.rmtree()


def remove_unfinished(directory: epath.PathLike) -> tuple[str, ...]:
    """Delete what interrupted saves and deletions left in a directory; returns the names.

    Every directory in it that is not a complete checkpoint goes. Only for a directory that
    holds checkpoints alone and that no other process writes to.
    """
    directory = epath.Path(directory)
    if not directory.exists():
        return ()
    left = [path for path in directory.iterdir() if path.is_dir() and not is_complete(path)]
    for path in left:
        path.rmtree()
    return tuple(sorted(path.name for path in left))


def damaged(path: epath.Path, error: Exception) -> DamagedCheckpoint:
    """The error that says why a checkpoint cannot be read, and what to do."""
    return DamagedCheckpoint(
        f"Checkpoint '{path}' cannot be read: {reason(error)}; delete it to train again from "
        "the one before."
    )


def reason(error: Exception) -> str:
    """The operating system's own words if the error holds them, else its first line."""
    text = str(error).strip()
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO):
        if os.strerror(code) in text:
            return os.strerror(code)
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else 'no message'}"
