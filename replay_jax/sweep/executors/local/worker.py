"""A worker process: trains the edges that its coordinator sends, and never outlives it.

Started by `workers.LocalWorkers` as `python -m replay_jax.sweep.executors.local.worker FD ROOT
PARENT LANES`, with the environment that XLA reads set before this process began.
"""

import ctypes
import os
import pickle
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import NoReturn

STOP = b"stop"
BEAT = "beat"
# A process that is stopped, or hangs with Python's lock held, says nothing.
_BEAT_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Work until the coordinator closes the connection."""
    _die_with(int(sys.argv[3]))
    # Ctrl-C reaches the whole terminal; the coordinator decides what is saved, and says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    connection = Connection(int(sys.argv[1]))
    jobs: queue.Queue[bytes] = queue.Queue()
    # Listening begins before the slow imports, so that a lost coordinator is noticed at once.
    threading.Thread(target=_listen, args=(connection, jobs, stop), daemon=True).start()
    tell = _Teller(connection)
    threading.Thread(target=_beat, args=(tell,), daemon=True).start()
    lanes = int(sys.argv[4])
    if lanes > 1:
        _train_side_by_side(lanes, tell, jobs, stop)
    _train_in_turn(tell, jobs, stop)


class _Teller:
    """Sends messages to the coordinator, from any thread."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._lock = connection, threading.Lock()

    def __call__(self, message: object) -> None:
        with self._lock:
            self._connection.send(message)


def _beat(tell: _Teller) -> None:
    while True:
        tell(BEAT)
        time.sleep(_BEAT_SECONDS)


def _train_in_turn(tell: _Teller, jobs: "queue.Queue[bytes]", stop: threading.Event) -> NoReturn:
    from replay_jax.sweep.store.workdir import WorkStore
    from replay_jax.sweep.train.edge import EdgeTrainer
    from replay_jax.sweep.train.outcome import work

    trainer = EdgeTrainer(WorkStore(sys.argv[2]))
    while True:
        edge, job, profile = pickle.loads(jobs.get())
        tell(work(trainer, edge, job, tell=tell, should_stop=stop.is_set, profile=profile))
        _end_if(stop)


def _train_side_by_side(
    lanes: int, tell: _Teller, jobs: "queue.Queue[bytes]", stop: threading.Event
) -> NoReturn:
    from replay_jax.sweep.store.workdir import WorkStore
    from replay_jax.sweep.train.population import PopulationTrainer
    from replay_jax.sweep.train.programs import ProgramCache

    trainer = PopulationTrainer(
        WorkStore(sys.argv[2]),
        ProgramCache(),
        lanes,
        tell=tell,
        should_stop=stop.is_set,
    )
    while True:
        # What has come meanwhile joins; with nothing to do, wait for something to come.
        while trainer.is_idle or not jobs.empty():
            trainer.admit(*pickle.loads(jobs.get()))
        trainer.advance()
        if trainer.is_idle and jobs.empty():
            _end_if(stop)


def _end_if(stop: threading.Event) -> None:
    """End what was told to stop, also by SIGTERM from outside: its next job would stop at once."""
    if stop.is_set():
        sys.exit()


def _listen(connection: Connection, jobs: "queue.Queue[bytes]", stop: threading.Event) -> None:
    """Take messages in, unread; the end of the connection is the end of this process.

    Reading a job imports what it is made of, and two threads must not import NumPy at once.
    """
    try:
        while True:
            message = connection.recv_bytes()
            if message == STOP:
                stop.set()
            else:
                jobs.put(message)
    except (EOFError, OSError):
        # The coordinator is gone, also by kill -9. Whatever is half written counts as nothing.
        os._exit(0)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, however busy it is (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
