"""Finished runs in TensorBoard and W&B, from their records alone: each once, under its own name.

Whatever trained a run knows nothing of this, so prefixes that runs share, lanes and buckets lose
nothing. Beside a folder of events for every run, `tensorboard/<name>-<id>`, there is a fact
`sent/<id>-<digest>.json` for what a run was sent to; a run without one is sent when its sweep goes
on, and by `report`.
"""

import queue
import threading
from collections.abc import Mapping

from replay_jax.errors import UserError
from replay_jax.sweep.drive.trackers import check_wandb, send_to_wandb, write_tensorboard
from replay_jax.sweep.plan.digest import canonical_digest
from replay_jax.sweep.store import facts
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.config import LoggingConfig

# The settings of every run of a sweep, by its id.
Wanted = Mapping[str, LoggingConfig]


class Tracking:
    """Sends runs in a thread of its own, so that no edge waits for a network.

    Use it as a context manager. What was finished before and never sent goes first; at the end it
    waits for what is left. The first fault is kept as `fault`, and ends the sending: training goes
    on, and what was not sent is sent another time.

    Raises UserError if W&B is asked for but not installed.
    """

    def __init__(self, store: WorkStore, wanted: Wanted) -> None:
        for logging in set(wanted.values()):
            if logging.wandb_project:
                check_wandb(logging.wandb_project)
        self._store, self._wanted = store, wanted
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._given_up = threading.Event()
        self.fault: str | None = None

    def __enter__(self) -> "Tracking":
        for id in unsent(self._store, self._wanted):
            self._queue.put(id)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._given_up.set()
        self._queue.put(None)
        self._thread.join()

    def add(self, id: str) -> None:
        """A run may have ended; one without a result is not sent."""
        self._queue.put(id)

    def _work(self) -> None:
        while (id := self._queue.get()) is not None:
            if self.fault is None and not self._given_up.is_set():
                try:
                    send(self._store, id, self._wanted[id])
                except Exception as error:
                    self.fault = _sentence(error)


def unsent(store: WorkStore, wanted: Wanted) -> list[str]:
    """Ids of the finished runs that were not sent to all that is wanted now, in the given order."""
    finished, sent = store.finished_runs(), set(facts.fact_names(store.root / "sent"))
    return [id for id in wanted if id in finished and _mark(id, wanted[id]) not in sent]


def send(store: WorkStore, id: str, logging: LoggingConfig) -> None:
    """Send a finished run to what is wanted, in place of what was sent of it before."""
    record = store.result(id)
    if record is None:
        return
    if logging.tensorboard:
        write_tensorboard(record, store.root / "tensorboard")
    if logging.wandb_project:
        send_to_wandb(record, store.root, logging.wandb_project)
    facts.write_fact(store.root / "sent" / f"{_mark(id, logging)}.json", _plain(logging))


def send_to_wandb_again(store: WorkStore) -> str | None:
    """Send W&B the finished runs of the last sweep that it lacks; returns why that failed."""
    settings = {fact["id"]: LoggingConfig(**fact["config"]["logging"]) for fact in store.runs()}
    wanted = {id: logging for id, logging in settings.items() if logging.wandb_project}
    try:
        for id in unsent(store, wanted):
            check_wandb(wanted[id].wandb_project)
            send(store, id, wanted[id])
    except Exception as error:
        return _sentence(error)
    return None


def _sentence(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"


def _mark(id: str, logging: LoggingConfig) -> str:
    return f"{id}-{canonical_digest(_plain(logging)).hex()[:8]}"


def _plain(logging: LoggingConfig) -> dict[str, bool | str]:
    return {"tensorboard": logging.tensorboard, "wandb_project": logging.wandb_project}
