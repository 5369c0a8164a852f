"""Who may write in a working directory, on any storage: numbered leases, kept by heartbeats.

    lease/000007.json     the seventh holder: who, a word of its own, its last heartbeat

The holder is the file of the highest number. Whoever wants to follow makes the file of the next
number, which only one can (`put_if_absent`), and may do so when the holder has let go, or when its
heartbeat was not seen to change for SILENCE_SECONDS by the clock of the one who waits: clocks of
several machines are never compared. The number is the fence: before a writer publishes, it looks
whether there is a higher one. A holder that was stopped and wakes up finds it, and writes nothing.
No lease is ever deleted, so that a number is never free again: one small file for each `run`.
"""

import dataclasses
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from etils import epath

from replay_jax.errors import UserError
from replay_jax.sweep.store.facts import write_text
from replay_jax.sweep.store.put_if_absent import names_now, put_if_absent, read_now

HEARTBEAT_SECONDS = 10.0
# Without a heartbeat for so long, another may follow.
SILENCE_SECONDS = 60.0
# So long after a heartbeat nobody can have followed, with room for a write that is under way.
_SURE_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_MOST_TRIES = 20


class LostLease(UserError):
    """Another process has followed this one, which was silent: it must write nothing more."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """What a lease says.

    Attributes:
        pid, host: the process.
        kernel: the running system that it is part of, unlike that of any other machine or boot.
        word: unlike that of any other holder.
        beat: number of its last heartbeat.
        time: of that heartbeat, by its own clock in seconds since 1970.
        released: whether it has let go.
    """

    pid: int
    host: str
    kernel: str
    word: str
    beat: int
    time: float
    released: bool

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclasses.dataclass(frozen=True)
class Fence:
    """The number of a lease, for processes that work for its holder on any machine."""

    root: epath.Path
    number: int

    def confirm(self) -> None:
        """Raises LostLease if another has followed."""
        follower = _read(self.root, self.number + 1)
        if follower is not None:
            raise _lost(self.root, follower)


class Lease:
    """The lease of this process on a working directory: `take`, then `release`.

    `number` is 0 before it is taken.
    """

    def __init__(self, root: epath.PathLike) -> None:
        self.root, self.number = epath.Path(root), 0
        self._word, self._beat = secrets.token_hex(8), 0
        self._confirmed = 0.0
        self._lost: LostLease | None = None
        self._turn, self._over = threading.Lock(), threading.Event()

    def take(self, *, alone: bool, say: Callable[[str], None]) -> None:
        """Become the holder, waiting until the one before is known to be gone.

        Args:
            alone: whether a lock of the system says that no other process of this machine is one.
            say: is told what is waited for.

        Raises:
            UserError: the holder is alive; names it.
        """
        while not self.number:
            number, holder = newest(self.root)
            if holder is not None and not _is_gone(holder, alone):
                self._outwait(number, holder, say)
            self._try(number + 1)
        threading.Thread(target=self._keep, daemon=True).start()

    def _outwait(self, number: int, holder: Holder, say: Callable[[str], None]) -> None:
        """Return when a holder has been silent for long enough, or has let go or been followed."""
        began = _now()
        say(f"{holder} may be at work in {self.root}: waiting up to {SILENCE_SECONDS:.0f} s")
        while _now() - began < SILENCE_SECONDS:
            time.sleep(_LOOK_SECONDS)
            there = _read(self.root, number)
            if there is None or there.released or there.word != holder.word:
                return
            if there.beat != holder.beat:
                raise UserError(
                    f"{self.root} is in use by {there}: wait for it, end it, "
                    "or choose another --workdir"
                )

    def _try(self, number: int) -> None:
        began = _now()
        if put_if_absent(_path(self.root, number), self._text(released=False)):
            self.number, self._confirmed = number, began

    def confirm(self) -> None:
        """Make sure that this process still holds it; costs nothing while heartbeats succeed.

        Raises:
            LostLease: another has followed.
        """
        if self._lost is None and _now() - self._confirmed > _SURE_SECONDS:
            self._renew(released=False)
        if self._lost is not None:
            raise self._lost

    def release(self) -> None:
        """Let go, so that another need not wait."""
        self._over.set()
        if self.number and self._lost is None:
            self._renew(released=True)

    def _keep(self) -> None:
        while self._lost is None and not self._over.wait(HEARTBEAT_SECONDS):
            try:
                self._renew(released=False)
            except Exception:
                # Storage is away. The next who asks `confirm` finds out for how long.
                continue

    def _renew(self, *, released: bool) -> None:
        with self._turn:
            began = _now()
            if self._over.is_set() and not released:
                return
            try:
                Fence(self.root, self.number).confirm()
                own = _read(self.root, self.number)
                if own is not None and own.word != self._word:
                    # Storage that knows no exclusive creation: the last writer has it.
                    raise _lost(self.root, own)
            except LostLease as error:
                self._lost = error
                return
            self._beat += 1
            write_text(_path(self.root, self.number), self._text(released=released))
            self._confirmed = began

    def _text(self, *, released: bool) -> str:
        me = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            kernel=_kernel(),
            word=self._word,
            beat=self._beat,
            time=time.time(),
            released=released,
        )
        return json.dumps(dataclasses.asdict(me))


def newest(root: epath.PathLike) -> tuple[int, Holder | None]:
    """The highest number, 0 if there is none, and what its lease says."""
    place = epath.Path(root)
    number = max(_numbers(place), default=0)
    # A listing may be older than what can be read.
    while number and _read(place, number + 1) is not None:
        number += 1
    return number, _read(place, number)


def seconds_silent(holder: Holder) -> float:
    """Since when nothing was heard of a holder, as far as two machines' clocks agree."""
    return max(0.0, time.time() - holder.time)


def is_of_this_system(holder: Holder) -> bool:
    """Whether a holder is, or was, a process under this very kernel."""
    return holder.kernel == _kernel()


def _is_gone(holder: Holder, alone: bool) -> bool:
    return holder.released or (alone and is_of_this_system(holder))


def _lost(root: epath.Path, follower: Holder) -> LostLease:
    return LostLease(
        f"{root} was taken over by {follower} while nothing was heard of this process "
        f"({os.getpid()} on {socket.gethostname()}), which writes nothing more: the other goes on"
    )


def _numbers(root: epath.Path) -> list[int]:
    found = (re.fullmatch(r"(\d+)\.json", name) for name in names_now(root / "lease"))
    return [int(match[1]) for match in found if match]


def _path(root: epath.Path, number: int) -> epath.Path:
    return root / "lease" / f"{number:06d}.json"


def _read(root: epath.Path, number: int) -> Holder | None:
    text = read_now(_path(root, number))
    tries = 0
    while text == "" and tries < _MOST_TRIES:
        # Where there are no hard links, a file is there a moment before what it says.
        time.sleep(_LOOK_SECONDS / 10)
        text, tries = read_now(_path(root, number)), tries + 1
    if text is None:
        return None
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{_path(root, number)} is damaged ({error}): delete it if nothing runs here"
        ) from error


def _now() -> float:
    """A clock that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _kernel() -> str:
    identity = Path("/proc/sys/kernel/random/boot_id")
    return identity.read_text().strip() if identity.exists() else socket.gethostname()
