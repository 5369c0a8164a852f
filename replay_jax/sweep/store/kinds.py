"""Kinds of failure: what passes by itself, what would happen again, what only the user can mend."""

import errno
import os
from collections.abc import Iterator
from typing import Literal

from replay_jax.errors import UserError

# transient: storage or network, tried again after a pause; memory: the machine was full, tried
# again by the next command; damaged: a saved state cannot be read; mistake: the user's, or a
# place that cannot be written to or read, which the user can mend; deterministic: the same bits
# would fail again.
Kind = Literal["transient", "memory", "damaged", "mistake", "deterministic"]

_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        "EIO", "ETIMEDOUT", "ESTALE", "EAGAIN", "EBUSY", "EINTR", "ENETDOWN", "ENETUNREACH",
        "ENETRESET", "EHOSTDOWN", "EHOSTUNREACH", "EREMOTEIO", "ENOLCK",
    )
    if hasattr(errno, name)
)  # fmt: skip
# How object stores say that they are busy: too many requests, or a fault of theirs.
_HTTP = frozenset({408, 429, 500, 502, 503, 504})
_WORDS = (
    "UNAVAILABLE:", "DEADLINE_EXCEEDED:", "Too Many Requests", "Service Unavailable",
    "Bad Gateway", "Gateway Timeout", *map(os.strerror, (errno.EIO, errno.ETIMEDOUT, errno.ESTALE)),
)  # fmt: skip

_PLACES = tuple(
    os.strerror(getattr(errno, name))
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EFBIG", "EMFILE")
    if hasattr(errno, name)
)


class DamagedState(UserError):
    """A saved state that is there and cannot be read; `digest` names it."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(reason)
        self.digest = digest


def kind_of(error: BaseException) -> Kind:
    """What kind of failure an exception is, by itself and by what caused it."""
    causes = list(_causes(error))
    if any(isinstance(each, FloatingPointError) for each in causes):
        return "deterministic"
    if is_transient(error):
        return "transient"
    if any(isinstance(e, MemoryError) or "RESOURCE_EXHAUSTED" in str(e) for e in causes):
        return "memory"
    if isinstance(error, DamagedState):
        return "damaged"
    if isinstance(error, UserError) or any(_is_of_a_place(each) for each in causes):
        return "mistake"
    return "deterministic"


def is_transient(error: BaseException) -> bool:
    """Whether an exception, or what caused it, is a fault of storage or network that may pass."""
    return any(_passes(each) for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_of_a_place(error: BaseException) -> bool:
    """Whether a full or read-only disk and the like is to blame, in whosever words."""
    return isinstance(error, OSError) or any(word in str(error) for word in _PLACES)


def _passes(error: BaseException) -> bool:
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    # Of gcsfs, google-cloud-storage and botocore, none of which need be installed.
    for name in ("code", "status", "status_code"):
        if str(getattr(error, name, "")) in {str(code) for code in _HTTP}:
            return True
    return not isinstance(error, UserError) and any(word in str(error) for word in _WORDS)
