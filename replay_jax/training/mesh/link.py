"""A line of messages between two processes of a run: plain JSON objects, and the end of the line.

JAX lets processes compute together; it has no way to say "this is next" or "I am ending", and it
takes up to two minutes to see that a process is gone. A connection of the operating system is
closed at once when a process dies, however it dies.
"""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

# A machine that lost its power closes nothing: ask it after so many seconds of silence, and give
# up after three questions without an answer.
_SILENCE_SECONDS, _QUESTIONS = 20, 3


class Link:
    """One end of a connection to another process; `who` names that process for messages."""

    def __init__(self, connection: socket.socket, who: str) -> None:
        self.who = who
        self._connection = connection
        self._sending = threading.Lock()
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
                connection.setsockopt(socket.IPPROTO_TCP, option, _SILENCE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _QUESTIONS)
            # With something sent and not confirmed no question is asked, but it is sent again, for
            # a quarter of an hour.
            patience = 1000 * _SILENCE_SECONDS * (1 + _QUESTIONS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
        self._lines = connection.makefile("rb")

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message; one that cannot be sent is lost, as `read` of this end will tell."""
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(line)

    def read(self) -> dict[str, Any] | None:
        """Wait for the next message; None when the other process is gone."""
        try:
            line = self._lines.readline()
            return dict(json.loads(line)) if line.endswith(b"\n") else None
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """End the connection; a thread that waits in `read` gets None."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
