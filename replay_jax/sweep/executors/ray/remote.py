"""What runs on a Ray cluster's machines: one edge on one host, or on all hosts of a TPU slice.

Imported by the driver and by Ray's workers; nothing here runs without Ray.
"""

import functools
import itertools
import socket
import threading
from typing import Any

import jax
import ray
from jax.experimental import multihost_utils
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from ray.util.tpu import slice_placement_group

from replay_jax.sweep.store.environment import software
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.edge import EdgeTrainer
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import Advanced, Ended, Failed, Message, Started
from replay_jax.sweep.train.outcome import work
from replay_jax.training.config import Profile
from replay_jax.training.mesh.hosts import initialize

_EXCHANGE_SECONDS = 1.0
_UPDATES = itertools.count()


def train_edge(
    root: str, edge: int, job: EdgeJob, profile: Profile | None, board: Any
) -> Ended | Failed:
    """Do a job on one host; Ray runs it again elsewhere if the host is lost."""
    here = ray.util.get_node_ip_address()
    if not job.accept_environment:
        refused = ray.get(board.refusal.remote(here, software()))
        if refused is not None:
            return Failed(edge, refused, "", kind="mistake")
    with _Link(board, edge) as link:
        return work(
            _trainer(root),
            edge,
            job,
            tell=link.tell,
            should_stop=link.stop.is_set if jax.process_count() == 1 else _agreed_stop,
            profile=profile,
        )


def train_edge_on_slice(
    root: str, edge: int, job: EdgeJob, profile: Profile | None, board: Any, tpu_slice: str
) -> Ended | Failed:
    """Reserve a TPU slice such as "v4:4x4x4" and do a job on all of its hosts at once."""
    version, _, topology = tpu_slice.partition(":")
    reserved = slice_placement_group(topology, version)
    try:
        group = reserved.placement_group
        ray.get(group.ready())
        return train_on_hosts(
            root, edge, job, profile, board, group=group, hosts=reserved.num_hosts
        )
    finally:
        reserved.shutdown()


def train_on_hosts(
    root: str,
    edge: int,
    job: EdgeJob,
    profile: Profile | None,
    board: Any,
    *,
    group: PlacementGroup,
    hosts: int,
) -> Ended | Failed:
    """Do a job as one JAX cluster, one process in every bundle of a placement group.

    The processes are new, because JAX joins a cluster once; the group stays.
    """
    resources = dict(group.bundle_specs[0])
    cpus, gpus = resources.pop("CPU", 0), resources.pop("GPU", 0)
    actors = [
        ray.remote(_Host)
        .options(
            num_cpus=cpus,
            num_gpus=gpus,
            resources=resources,
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                placement_group=group, placement_group_bundle_index=rank
            ),
        )
        .remote()
        for rank in range(hosts)
    ]
    try:
        coordinator = ray.get(actors[0].address.remote())
        ends = [
            actor.train.remote(root, edge, job, profile, board, coordinator, hosts, rank)
            for rank, actor in enumerate(actors)
        ]
        # If one host fails, the others wait for it in vain: the first to end says why.
        waiting = list(ends)
        while waiting:
            (first, *_), waiting = ray.wait(waiting, num_returns=1)
            end: Ended | Failed = ray.get(first)
            if isinstance(end, Failed):
                break
        return end
    finally:
        for actor in actors:
            ray.kill(actor)


class _Host:
    """One process of a JAX cluster."""

    def address(self) -> str:
        """Where the cluster's processes can meet: this host, and a port that is free now."""
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        return f"{ray.util.get_node_ip_address()}:{port}"

    def train(
        self,
        root: str,
        edge: int,
        job: EdgeJob,
        profile: Profile | None,
        board: Any,
        coordinator: str,
        hosts: int,
        rank: int,
    ) -> Ended | Failed:
        """Join the cluster and do the job together with the other hosts."""
        initialize(coordinator, hosts, rank)
        return train_edge(root, edge, job, profile, board)


class _Link:
    """Once a second, takes progress to the board and brings back whether to stop."""

    def __init__(self, board: Any, edge: int) -> None:
        self.stop = threading.Event()
        self._board, self._over = board, threading.Event()
        where = f"{ray.util.get_node_ip_address()}"
        self._news: list[Message] = [Started(edge, where)]
        self._thread = threading.Thread(target=self._exchange, daemon=True)

    def __enter__(self) -> "_Link":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def tell(self, message: Advanced) -> None:
        """Leave the last progress to be taken along."""
        started = [item for item in self._news if isinstance(item, Started)]
        self._news = [*started, message]

    def _exchange(self) -> None:
        while True:
            news, self._news = self._news, []
            if ray.get(self._board.exchange.remote(news)):
                self.stop.set()
            if self._over.wait(_EXCHANGE_SECONDS):
                return


def _agreed_stop() -> bool:
    """Whether a host was told by SIGTERM that it will be lost; all hosts say so at one update."""
    # Counted over all edges of the process, as JAX names one number to all hosts.
    return bool(multihost_utils.reached_preemption_sync_point(next(_UPDATES)))


@functools.cache
def _trainer(root: str) -> EdgeTrainer:
    """One trainer per process of Ray's, which it reuses: compiled programs stay."""
    return EdgeTrainer(WorkStore(root))
