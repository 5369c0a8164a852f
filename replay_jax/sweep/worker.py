"""A worker process: trains the edges that its coordinator sends, and never outlives it.

Started by `workers.LocalWorkers` as `python -m replay_jax.sweep.worker FD ROOT`, with the
environment that XLA reads set before this process began.
"""

import os
import queue
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

from replay_jax.sweep.edge import EdgeTrainer
from replay_jax.sweep.jobs import EdgeJob
from replay_jax.sweep.messages import Advanced, Ended, Failed, Message
from replay_jax.sweep.store import WorkStore
from replay_jax.training.loop import Profile


def main() -> None:
    """Work until the coordinator closes the connection."""
    connection, root = Connection(int(sys.argv[1])), sys.argv[2]
    jobs: queue.Queue[tuple[int, EdgeJob, Profile | None]] = queue.Queue()
    stop = threading.Event()
    # Ctrl-C reaches the whole terminal; the coordinator decides what is saved, and says so.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_listen, args=(connection, jobs, stop), daemon=True).start()
    trainer = EdgeTrainer(WorkStore(root))
    while True:
        edge, job, profile = jobs.get()
        connection.send(work(trainer, edge, job, connection=connection, stop=stop, profile=profile))


def work(
    trainer: EdgeTrainer,
    edge: int,
    job: EdgeJob,
    *,
    connection: Any,
    stop: threading.Event,
    profile: Profile | None,
) -> Message:
    """Do one job; returns how it ended. `connection.send` is given the progress on the way."""
    try:
        end = trainer.train(
            job,
            on_progress=lambda progress: connection.send(Advanced(edge, progress)),
            should_stop=stop.is_set,
            profile=profile,
        )
    except Exception as error:
        return Failed(edge, describe_error(error), traceback.format_exc())
    return Ended(edge, end.step, end.finished)


def describe_error(error: Exception) -> str:
    """An error in one line; running out of memory is said in plain words."""
    text = str(error).strip().split("\n")[0] or type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"out of memory: {text}; use a smaller batch, more accumulation or fewer workers"
    if isinstance(error, FloatingPointError | ValueError):
        return text
    return f"{type(error).__name__}: {text}"


def _listen(
    connection: Connection,
    jobs: "queue.Queue[tuple[int, EdgeJob, Profile | None]]",
    stop: threading.Event,
) -> None:
    """Take messages in; the end of the connection is the end of this process."""
    try:
        while True:
            message = connection.recv()
            if message is None:
                stop.set()
            else:
                jobs.put(message)
    except (EOFError, OSError):
        # The coordinator is gone, also by kill -9. Whatever is half written counts as nothing.
        os._exit(0)


if __name__ == "__main__":
    main()
