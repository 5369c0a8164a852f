"""The other hosts of a run, as process 0 sees them: what they say, what they are told, who is lost.

told     {"do": "prepare"}, {"do": "job", "root": …, "threads": …}, {"do": "halt"},
         {"do": "stop", "last": updates}, {"do": "over", "code": …, "reason": …}
say      {"prepared": facts}, {"interrupted": true}, {"begun": updates},
         {"ended": {"step": …, "finished": …}} or {"failed": {"reason": …, …}}
"""

import queue
import threading
from collections.abc import Mapping
from typing import Any

from replay_jax.errors import UserError
from replay_jax.training.mesh.hosts import Roll
from replay_jax.training.mesh.link import Link

PATIENCE_SECONDS = 60.0


class LostHost(Exception):
    """A host is gone, or cannot go on: the others would wait for it forever."""


class Hosts:
    """All hosts of a run without Ray; this is process 0.

    Attributes:
        roll: who is there.
        events: what was said by whom: (process, message), None in place of a message for a process
            that is gone. Process 0's own trainer puts its messages there too.
        is_stuck: whether a job is under way, in which hosts wait for each other.
    """

    def __init__(self, roll: Roll) -> None:
        self.roll = roll
        self.events: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self.is_stuck = False
        self._links = {
            number: Link(connection, f"process {number} ({roll.names[number]})")
            for number, connection in roll.connections.items()
        }
        for number, link in self._links.items():
            threading.Thread(target=self._listen, args=(number, link), daemon=True).start()

    @property
    def count(self) -> int:
        """Number of hosts, this one included."""
        return len(self._links) + 1

    def name(self, number: int) -> str:
        """A process in words."""
        return f"process {number} ({self.roll.names[number]})"

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message to all other hosts."""
        for link in self._links.values():
            link.send(message)

    def hear(self, seconds: float) -> list[tuple[int, Any]]:
        """What was said meanwhile, waiting at most `seconds` for the first word.

        Raises:
            LostHost: a host is gone; names it.
        """
        heard = []
        try:
            heard.append(self.events.get(timeout=max(seconds, 1e-3)))
            while True:
                heard.append(self.events.get_nowait())
        except queue.Empty:
            pass
        for number, message in heard:
            if message is None:
                raise LostHost(
                    f"{self.name(number)} is gone; see its log, then start the same command again "
                    "on all hosts: the sweep goes on from its last checkpoints"
                )
        return heard

    def prepare(self, facts: Mapping[str, str]) -> None:
        """Have every other host prepare its data, or find what this one has prepared.

        Args:
            facts: what all hosts must have in common, such as data fingerprints and versions.

        Raises:
            UserError: a host has other data or another version, or cannot prepare.
            LostHost: a host is gone.
            KeyboardInterrupt: a host was interrupted.
        """
        self.tell({"do": "prepare"})
        missing = set(self._links)
        while missing:
            for number, message in self.hear(PATIENCE_SECONDS):
                match message:
                    case {"prepared": theirs}:
                        missing.discard(number)
                        self._compare(number, facts, theirs)
                    case {"failed": {"reason": reason}}:
                        raise UserError(f"{self.name(number)}: {reason}")
                    case {"interrupted": True}:
                        raise KeyboardInterrupt

    def end(self, code: int, reason: str | None) -> None:
        """Tell all hosts to end with a code, and why where that is a mistake."""
        self.tell({"do": "over", "code": code, "reason": reason})
        for link in self._links.values():
            link.close()

    def _compare(self, number: int, ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                raise UserError(
                    f"{self.name(number)} has {key} {theirs.get(key)} and process 0 has "
                    f"{ours.get(key)}: give all hosts the same software, sources and command"
                )

    def _listen(self, number: int, link: Link) -> None:
        while True:
            message = link.read()
            self.events.put((number, message))
            if message is None:
                return
