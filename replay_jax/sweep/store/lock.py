"""One `run` per working directory: a lock of the operating system where there is one, and a lease.

The lock is an flock on one open file. Worker processes inherit that open file, so the lock is free
only when the coordinator and all its workers are gone: a new coordinator of the same machine can
never meet a worker that a killed one left behind, and need not wait. The lease holds wherever files
can be read, in buckets and on file systems without locks or with locks of each machine's own.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from etils import epath

from replay_jax.errors import UserError
from replay_jax.sweep.store.lease import (
    SILENCE_SECONDS,
    Holder,
    Lease,
    is_of_this_system,
    newest,
    seconds_silent,
)

_NAME = "lock"
# Workers of a coordinator that has just been killed need a moment to notice and end.
_PATIENCE_SECONDS = 5.0
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class WorkdirLock:
    """Exclusive use of a working directory, as a context manager.

    Attributes:
        workdir: the directory.
        fd: the open file that holds the lock; give it to worker processes. -1 where there are no
            locks: in a bucket, or on a file system without.
        lease: what says so everywhere; `confirm` it before anything is published.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        patience: float = _PATIENCE_SECONDS,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.workdir = epath.Path(workdir)
        self.lease = Lease(self.workdir)
        self._path = Path(workdir) / _NAME
        self._patience, self._say = patience, say
        self.fd = -1

    def __enter__(self) -> "WorkdirLock":
        """Take the lock and the lease.

        Raises:
            UserError: another process holds them; says which.
        """
        if "://" not in os.fspath(self.workdir):
            self._lock()
        try:
            self.lease.take(alone=self.fd >= 0, say=self._say)
        except BaseException as error:
            self._close()
            if isinstance(error, OSError):
                why = error.strerror or error
                raise UserError(
                    f"cannot write to the working directory {self.workdir}: {why}"
                ) from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.lease.release()
        except (OSError, UserError):
            # Storage is away: whoever comes next waits for the lease to be old.
            pass
        self._close()

    def _close(self) -> None:
        # Closing, not unlocking: the lock stays with workers that are still ending.
        if self.fd >= 0:
            os.close(self.fd)

    def _lock(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise UserError(
                f"cannot write to the working directory {self._path.parent}: {error.strerror}"
            ) from error
        deadline = time.monotonic() + self._patience
        while not self._try():
            if time.monotonic() > deadline:
                os.close(self.fd)
                raise UserError(
                    f"{self._path.parent} is in use by {_described(newest(self.workdir)[1])}: "
                    "wait for it, end it, or choose another --workdir"
                )
            time.sleep(0.05)

    def _try(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            os.close(self.fd)
            if error.errno not in _NO_LOCKS:
                raise UserError(
                    f"cannot lock the working directory {self._path.parent}: {error.strerror}"
                ) from error
            # The lease alone.
            self.fd = -1
        return True


def lock_holder(workdir: epath.PathLike) -> str | None:
    """Who holds a working directory, in words, or None where nobody does.

    A holder on another machine of whom nothing was heard for long is nobody: another can follow.
    """
    holder = newest(workdir)[1]
    locked = None if "://" in os.fspath(workdir) else _is_locked(Path(workdir))
    if locked:
        return _described(holder)
    if holder is None or holder.released or seconds_silent(holder) > SILENCE_SECONDS:
        return None
    if locked is False and is_of_this_system(holder):
        return None
    return str(holder)


def _is_locked(workdir: Path) -> bool | None:
    """Whether a process of this machine holds the lock; None where there are no locks."""
    try:
        fd = os.open(workdir / _NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        # A shared lock: two readers do not hinder each other, a coordinator waits it out.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


def _described(holder: Holder | None) -> str:
    if holder is None:
        # Between taking the lock and the lease.
        return "another process"
    return f"a worker of {holder}" if holder.released else str(holder)
