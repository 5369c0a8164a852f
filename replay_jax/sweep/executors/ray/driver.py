"""Edges as tasks of a Ray cluster: Ray places them, and runs them again when a node is lost."""

import contextlib
from typing import Any

from etils import epath

from replay_jax.config.execution import ExecutionConfig
from replay_jax.errors import UserError
from replay_jax.sweep.executors.local.settings import jax_settings
from replay_jax.sweep.executors.ray.board import Board
from replay_jax.sweep.store.environment import software
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import Ended, Failed, Lost, Message, Started
from replay_jax.training.config import Profile

# How often Ray runs an edge again by itself when its process or node is lost; each time it goes on
# from its last checkpoint.
_RETRIES = 5
# Asked for at once, times what the cluster can train: none of its machines waits for the driver,
# and an autoscaler does not start one for every edge that is ready.
_AHEAD = 2


class RayTasks:
    """Trains jobs on a Ray cluster that exists (`address`) or is started here for the while.

    Use it as a context manager. `execution.workers` jobs are given to Ray at once; with 0 twice as
    many as the cluster can train when it is joined. An autoscaler that is to start more machines
    is told by `execution.workers` how many edges to expect. The working directory must be a path
    that every machine sees (NFS, gs://).
    """

    lanes = 1

    def __init__(
        self, root: epath.PathLike, execution: ExecutionConfig, *, threads: int, address: str | None
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise UserError(
                "executor 'ray' needs Ray: pip install 'replay-jax[ray]', or use --executor=local"
            ) from error
        self._ray = ray
        self._root, self._execution = str(root), execution
        self._threads, self._address = threads, address
        self._edges: dict[Any, int] = {}
        self._starts: dict[int, int] = {}
        self._begun: set[int] = set()
        self._stopping = False
        self.workers = self.slots = 0

    def __enter__(self) -> "RayTasks":
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        ray = self._ray
        settings = {"env_vars": jax_settings(self._root, self._threads)}
        ray.init(address=self._address, runtime_env=settings, log_to_driver=False)
        self._take_stock()
        # With the driver, so that losing any other node cannot lose it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "scheduling_strategy": here}
        self._board = ray.remote(Board).options(**options).remote(software())
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def _take_stock(self) -> None:
        self.workers = self._capacity()
        self.slots = self._execution.workers or _AHEAD * self.workers

    def submit(
        self, edge: int, job: EdgeJob, *, after: int | None, profile: Profile | None
    ) -> None:
        """Give a job to Ray."""
        from replay_jax.sweep.executors.ray import remote as ray_edges

        del after  # Ray chooses the place.
        options: dict[str, Any] = {"max_retries": _RETRIES}
        arguments = (self._root, edge, job, profile, self._board)
        if self._execution.ray_slice is None:
            remote = self._ray.remote(ray_edges.train_edge)
            reference = remote.options(**options, **self._resources()).remote(*arguments)
        else:
            remote = self._ray.remote(ray_edges.train_edge_on_slice)
            # A host that is lost takes its whole slice with it; the reservation is made anew.
            options["retry_exceptions"] = [self._ray.exceptions.RayActorError]
            reference = remote.options(num_cpus=0, **options).remote(
                *arguments, self._execution.ray_slice
            )
        self._edges[reference] = edge
        self._starts[edge] = job.start.step

    def poll(self, seconds: float) -> list[Message]:
        """What has happened, waiting at most `seconds` for an edge to end."""
        ready, _ = self._ray.wait(list(self._edges), num_returns=1, timeout=seconds)
        news: list[Message] = self._ray.get(self._board.drain.remote())
        self._begun |= {message.edge for message in news if isinstance(message, Started)}
        if self._stopping:
            self._take_back()
        return news + [self._ended(reference, self._edges.pop(reference)) for reference in ready]

    def stop(self) -> None:
        """Ask all edges to save and end; those that have not begun are taken back."""
        # Also called by signal handlers: the rest is done by `poll`.
        self._stopping = True

    def _take_back(self) -> None:
        """Cancel what has not begun: Ray interrupts what has, which would save nothing."""
        self._stopping = False
        self._board.stop.remote()
        for reference, edge in self._edges.items():
            if edge not in self._begun:
                self._ray.cancel(reference, force=False, recursive=False)

    def _ended(self, reference: Any, edge: int) -> Message:
        errors = self._ray.exceptions
        try:
            message: Ended | Failed = self._ray.get(reference)
        except errors.TaskCancelledError:
            return Ended(edge, self._starts[edge], False)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.RayActorError) as error:
            return Lost(edge, f"the machine of an edge was lost {_RETRIES + 1} times ({error})")
        except errors.OutOfMemoryError as error:
            return Failed(edge, "out of memory: " + str(error).split("\n")[0], str(error))
        except errors.RayError as error:
            return Failed(edge, str(error).strip().split("\n")[-1], str(error))
        return message

    def _resources(self) -> dict[str, Any]:
        needed = dict(self._execution.ray_resources)
        named = {key: needed.pop(key) for key in ("CPU", "GPU") if key in needed}
        cpus = named["CPU"] if "CPU" in named else max(1, self._threads)
        gpus = {"num_gpus": named["GPU"]} if "GPU" in named else {}
        return {"num_cpus": cpus, "resources": needed, **gpus}

    def _capacity(self) -> int:
        """How many edges the cluster can train side by side as it is now."""
        if self._execution.ray_slice is not None:
            return 1
        there = self._ray.cluster_resources()
        needed = {"CPU": float(max(1, self._threads)), **dict(self._execution.ray_resources)}
        with contextlib.suppress(KeyError):
            return max(1, min(int(there[name] // amount) for name, amount in needed.items()))
        return 1
