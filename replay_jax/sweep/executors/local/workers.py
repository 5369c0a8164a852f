"""Edges side by side on this machine: worker processes, their jobs and their losses."""

import dataclasses
import os
import pickle
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from replay_jax.sweep.executors.local.choice import WorkerChoice
from replay_jax.sweep.executors.local.settings import worker_environment
from replay_jax.sweep.executors.local.worker import BEAT, STOP
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import Advanced, Lost, Message, Started
from replay_jax.training.config import Profile

_MODULE = "replay_jax.sweep.executors.local.worker"
# A worker says something every few seconds, also while it compiles.
_SILENCE_SECONDS = 60.0


@dataclasses.dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path
    place: int = 0
    edges: set[int] = dataclasses.field(default_factory=set)
    heard: float = dataclasses.field(default_factory=time.monotonic)
    silent: bool = False
    # What it trained last, whose end states may still be in its memory.
    done: list[int] = dataclasses.field(default_factory=list)


class LocalWorkers:
    """Worker processes of one coordinator; started when first needed, and gone when it is.

    Use it as a context manager. `slots` jobs can run at once, `lanes` in every process.
    """

    def __init__(self, root: Path, choice: WorkerChoice, *, lanes: int, lock_fd: int) -> None:
        self.workers, self.lanes = choice.workers, lanes
        self.slots = choice.workers * lanes
        self._root, self._choice, self._lock_fd = root, choice, lock_fd
        self._workers: list[_Worker] = []
        self._news: list[Message] = []
        self._started = 0
        self._polled = time.monotonic()

    def __enter__(self) -> "LocalWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
        for worker in self._workers:
            worker.process.wait()

    def submit(
        self, edge: int, job: EdgeJob, *, after: int | None, profile: Profile | None
    ) -> None:
        """Give a job to a worker with room, if possible to one that did edge `after` lately."""
        room = [worker for worker in self._workers if len(worker.edges) < self.lanes]
        worker = next((w for w in room if after is not None and after in w.done), None)
        if worker is None:
            # The emptiest; a new process rather than one that is busy.
            room.sort(key=lambda worker: len(worker.edges))
            full = len(self._workers) == self.workers
            worker = room[0] if room and (full or not room[0].edges) else self._start()
        worker.edges.add(edge)
        self._news.append(Started(edge, f"process {worker.process.pid}"))
        try:
            worker.connection.send_bytes(pickle.dumps((edge, job, profile)))
        except OSError:
            # It has died meanwhile; `poll` finds that out and says so.
            pass

    def poll(self, seconds: float) -> list[Message]:
        """What has happened, waiting at most `seconds` for something to."""
        news, self._news = self._news, []
        waiting = {worker.connection: worker for worker in self._workers}
        self._kill_silent()
        if not waiting:
            return news
        for connection in wait(list(waiting), timeout=0 if news else seconds):
            assert isinstance(connection, Connection)
            worker = waiting[connection]
            try:
                message = connection.recv()
            except (EOFError, OSError):
                news.extend(self._bury(worker))
                continue
            worker.heard = time.monotonic()
            if message == BEAT:
                continue
            if not isinstance(message, Advanced):
                worker.edges.remove(message.edge)
                worker.done = [*worker.done, message.edge][-self.lanes :]
            news.append(message)
        return news

    def stop(self) -> None:
        """Ask every worker to save its state and end its job."""
        for worker in self._workers:
            try:
                worker.connection.send_bytes(STOP)
            except OSError:
                pass

    def _kill_silent(self) -> None:
        """End workers that are stopped or hang, so that others take their edges."""
        now, before = time.monotonic(), self._polled
        self._polled = now
        for worker in self._workers:
            if now - before > _SILENCE_SECONDS / 2 or worker.connection.poll():
                # This process was stopped as well, or there is something to be read.
                worker.heard = now
            elif now - worker.heard > _SILENCE_SECONDS and not worker.silent:
                worker.silent = True
                worker.process.kill()

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        # Never the name of one that is still written to.
        log = self._root / "workers" / f"{self._started}.log"
        self._started += 1
        log.parent.mkdir(parents=True, exist_ok=True)
        taken = {worker.place for worker in self._workers}
        place = next(place for place in range(self.workers) if place not in taken)
        arguments = (str(theirs.fileno()), str(self._root), str(os.getpid()), str(self.lanes))
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # The lock, where there is one, is free only when the last worker is gone.
                pass_fds=(theirs.fileno(), *([self._lock_fd] if self._lock_fd >= 0 else [])),
                env=worker_environment(self._root, self._choice, place, os.environ),
            )
        theirs.close()
        worker = _Worker(process, ours, log, place)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> list[Message]:
        self._workers.remove(worker)
        worker.connection.close()
        code = worker.process.wait()
        if not worker.edges:
            return []
        lines = worker.log.read_text(errors="replace").strip().split("\n")
        how = (
            f"stopped answering for {_SILENCE_SECONDS:.0f} s and was ended"
            if worker.silent
            else f"was killed by signal {-code} (if not by hand: out of memory)"
            if code < 0
            else f"ended with code {code}: {lines[-1]}"
        )
        reason = f"worker process {worker.process.pid} {how}"
        return [Lost(edge, reason) for edge in sorted(worker.edges)]
