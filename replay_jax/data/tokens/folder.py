"""One process at a time in a store folder, and disk trouble told in one sentence."""

import contextlib
import errno
import fcntl
from collections.abc import Iterator
from pathlib import Path

from replay_jax.errors import UserError


@contextlib.contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Hold a lock named after `path`; others wait. The system frees it if this process dies."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"{name} cannot be read or written: {error.strerror}") from error
        raise
