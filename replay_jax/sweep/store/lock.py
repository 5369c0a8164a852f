"""One `run` per working directory, held by the operating system and so never stale.

The lock is an flock on one open file. Worker processes inherit that open file, so the lock is free
only when the coordinator and all its workers are gone: a new coordinator can never meet a worker
that a killed one left behind. A process that dies, however it dies, lets go.
"""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from etils import epath

from replay_jax.errors import UserError

_NAME = "lock"
# Workers of a coordinator that has just been killed need a moment to notice and end.
_PATIENCE_SECONDS = 5.0


class WorkdirLock:
    """Exclusive use of a working directory, as a context manager.

    Attributes:
        workdir: the directory.
        fd: the open file that holds the lock; give it to worker processes. -1 in a bucket, which
            has no locks.
    """

    def __init__(self, workdir: epath.PathLike, *, patience: float = _PATIENCE_SECONDS) -> None:
        self.workdir = epath.Path(workdir)
        self._path = Path(workdir) / _NAME
        self._patience = patience
        self.fd = -1

    def __enter__(self) -> "WorkdirLock":
        """Take the lock.

        Raises:
            UserError: another process holds it; says which.
        """
        if "://" in os.fspath(self.workdir):
            return self
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
                holder = _describe(os.pread(self.fd, 4096, 0))
                os.close(self.fd)
                raise UserError(
                    f"{self._path.parent} is in use by {holder}: wait for it, end it, "
                    "or choose another --workdir"
                )
            time.sleep(0.05)
        me = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, me.encode(), 0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing, not unlocking: the lock stays with workers that are still ending.
        if self.fd >= 0:
            os.close(self.fd)

    def _try(self) -> bool:
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            os.close(self.fd)
            raise UserError(
                f"the file system of {self._path.parent} has no locks ({error.strerror}): choose "
                "another --workdir, on a disk of this machine or mounted with locks"
            ) from error
        return True


def lock_holder(workdir: Path) -> str | None:
    """Who holds the lock of a working directory, in words, or None where nobody does."""
    try:
        fd = os.open(workdir / _NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        # A shared lock: two readers do not hinder each other, a coordinator waits it out.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _describe(os.pread(fd, 4096, 0))
    except OSError:
        # A file system without locks, on which no sweep can run.
        return None
    finally:
        os.close(fd)
    return None


def _describe(content: bytes) -> str:
    try:
        holder = json.loads(content)
    except json.JSONDecodeError:
        # Between taking the lock and writing its name.
        return "another process"
    return f"process {holder['pid']} on {holder['host']}"
