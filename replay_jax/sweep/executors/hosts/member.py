"""A host that is not process 0: does what it is told, prints only errors, never stays alone."""

import dataclasses
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from replay_jax.errors import UserError
from replay_jax.sweep.executors.hosts.stop_gate import StopGate
from replay_jax.sweep.executors.hosts.trainer import HostTrainer
from replay_jax.sweep.train.messages import Failed
from replay_jax.training.mesh.hosts import Roll
from replay_jax.training.mesh.link import Link


class HostMember:
    """One of the hosts that follow process 0; `serve` does all."""

    def __init__(self, roll: Roll, prepare: Callable[[], Mapping[str, str]]) -> None:
        self._link = Link(roll.connections[0], f"process 0 ({roll.names[0]})")
        self._prepare = prepare
        self._gate = StopGate()
        self._trainer = HostTrainer(roll.cluster, self._gate)
        self._orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._is_training = False
        self._interrupts = 0

    def serve(self) -> int:
        """Do what process 0 says until it says that all is over; returns the exit code.

        Does not return if process 0 is gone, or ends in the middle of a job: the process ends.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            order = self._orders.get()
            if order["do"] == "prepare":
                self._link.send(self._prepared())
            elif order["do"] == "job":
                self._link.send(self._trained(order))
            else:
                if order["reason"]:
                    print(f"replay-jax: {order['reason']}", file=sys.stderr, flush=True)
                return int(order["code"])

    def _prepared(self) -> dict[str, Any]:
        try:
            return {"prepared": dict(self._prepare())}
        except UserError as error:
            return {"failed": {"reason": str(error), "details": traceback.format_exc()}}

    def _trained(self, order: Mapping[str, Any]) -> dict[str, Any]:
        self._is_training = True
        end = self._trainer.do(
            None, root=order["root"], threads=order["threads"], tell=lambda _: None
        )
        self._is_training = False
        if isinstance(end, Failed):
            return {"failed": dataclasses.asdict(end)}
        return {"ended": {"step": end.step, "finished": end.finished}}

    def _listen(self) -> None:
        while True:
            message = self._link.read()
            if message is None:
                _leave(1, f"{self._link.who} is gone; start the same command again on all hosts")
            elif message["do"] == "halt":
                self._link.send({"begun": self._gate.close()})
            elif message["do"] == "stop":
                self._gate.open(message["last"])
            elif message["do"] == "over" and self._is_training:
                # Process 0 would wait for the end of the job, had it one.
                _leave(message["code"], message["reason"])
            else:
                self._orders.put(message)
            if message["do"] == "over":
                return

    def _interrupt(self, number: int, _: object) -> None:
        """Ask process 0 to end the sweep; the second time, end without."""
        self._interrupts += 1
        if self._interrupts > 1:
            _leave(128 + number, "interrupted twice")
        # The interrupted thread may be sending: it cannot wait for itself.
        threading.Thread(target=self._link.send, args=({"interrupted": True},)).start()


def _leave(code: int, reason: str | None) -> NoReturn:
    """End this process at once: its trainer may be waiting for a host that is gone."""
    if reason:
        print(f"replay-jax: {reason}", file=sys.stderr, flush=True)
    os._exit(code)
