"""Edges trained one after another by all hosts together, without Ray: the executor of process 0."""

import dataclasses
import queue
import threading
import time
from typing import Any

from etils import epath

from replay_jax.sweep.executors.hosts.others import PATIENCE_SECONDS, Hosts, LostHost
from replay_jax.sweep.executors.hosts.stop_gate import StopGate
from replay_jax.sweep.executors.hosts.trainer import Assignment, HostTrainer
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import (
    Advanced,
    Ended,
    Failed,
    Interrupted,
    Message,
    Started,
)
from replay_jax.training.config import Profile


class HostEdges:
    """Trains one job at a time on all devices of all hosts.

    Use it as a context manager. This process trains in a thread of its own, so that the sweep can
    be watched and interrupted meanwhile. A job has ended when every host says so: what a host sees
    when another is lost in the middle is no failure of the job.
    """

    slots = 1
    lanes = 1
    workers = 1

    def __init__(self, root: epath.PathLike, hosts: Hosts, *, threads: int) -> None:
        self._root, self._threads, self._hosts = str(root), threads, hosts
        self._gate = StopGate()
        self._trainer = HostTrainer(hosts.roll.cluster, self._gate)
        self._assignments: queue.SimpleQueue[Assignment | None] = queue.SimpleQueue()
        self._edge: int | None = None
        self._ends: dict[int, Ended | Failed] = {}
        self._first_end = 0.0
        self._news: list[Message] = []
        self._stopping = False
        self._begun: dict[int, int] | None = None

    def __enter__(self) -> "HostEdges":
        threading.Thread(target=self._train, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._assignments.put(None)

    def submit(
        self, edge: int, job: EdgeJob, *, after: int | None, profile: Profile | None
    ) -> None:
        """Begin a job on all hosts."""
        assert self._edge is None
        self._edge, self._ends, self._hosts.is_stuck = edge, {}, True
        self._hosts.tell({"do": "job", "root": self._root, "threads": self._threads})
        self._assignments.put((edge, job, profile))
        count = self._hosts.count
        self._news.append(Started(edge, f"{count} host{'s' if count > 1 else ''}"))

    def poll(self, seconds: float) -> list[Message]:
        """What has happened, waiting at most `seconds` for something to.

        Raises:
            LostHost: a host is gone, or failed alone, so that the others wait for it in vain.
        """
        if self._stopping and self._begun is None:
            self._begun = {0: self._gate.close()}
            self._hosts.tell({"do": "halt"})
            self._agree_on_last()
        news, self._news = self._news, []
        for number, said in self._hosts.hear(0.0 if news else seconds):
            self._take(number, said, news)
        if self._edge is not None and self._ends:
            self._settle(news)
        return news

    def stop(self) -> None:
        """Have all hosts save the state of the job under way and end it, at the same update."""
        # Also called by signal handlers: the rest is done by `poll`.
        self._stopping = True

    def _take(self, number: int, said: Any, news: list[Message]) -> None:
        match said:
            case Advanced():
                news.append(said)
            case Ended() | Failed():
                self._end(number, said)
            case {"ended": {"step": int(step), "finished": bool(finished)}}:
                self._end(number, Ended(-1, step, finished))
            case {"failed": dict(failure)}:
                self._end(number, Failed(**failure))
            case {"begun": int(begun)} if self._begun is not None:
                self._begun[number] = begun
                self._agree_on_last()
            case {"interrupted": True}:
                news.append(Interrupted(self._hosts.name(number)))

    def _end(self, number: int, end: Ended | Failed) -> None:
        if not self._ends:
            self._first_end = time.monotonic()
        self._ends[number] = end

    def _agree_on_last(self) -> None:
        assert self._begun is not None
        if len(self._begun) == self._hosts.count:
            last = max(self._begun.values())
            self._hosts.tell({"do": "stop", "last": last})
            self._gate.open(last)

    def _settle(self, news: list[Message]) -> None:
        """Give out the end of the job, if all hosts have come to it."""
        failed = {n: end for n, end in self._ends.items() if isinstance(end, Failed)}
        number = min(failed, default=0)
        if len(self._ends) < self._hosts.count:
            if failed and time.monotonic() - self._first_end > PATIENCE_SECONDS:
                reason = failed[number].reason
                raise LostHost(f"{self._hosts.name(number)} failed alone: {reason}")
            return
        assert self._edge is not None
        edge, self._edge, self._hosts.is_stuck = self._edge, None, False
        if failed:
            where = "" if len(failed) == self._hosts.count else f"{self._hosts.name(number)}: "
            news.append(
                dataclasses.replace(failed[number], edge=edge, reason=where + failed[number].reason)
            )
            return
        end = self._ends[0]
        assert isinstance(end, Ended)
        news.append(Ended(edge, end.step, end.finished))

    def _train(self) -> None:
        """What this host's trainer does, in a thread of its own."""

        def tell(message: Advanced) -> None:
            self._hosts.events.put((0, message))

        while (assignment := self._assignments.get()) is not None:
            end = self._trainer.do(assignment, root=self._root, threads=self._threads, tell=tell)
            self._hosts.events.put((0, end))
