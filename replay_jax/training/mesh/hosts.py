"""Start of a run over several hosts: call the roll first, then hand over to JAX.

`jax.distributed.initialize` ends the process with a stack trace when a host does not arrive, and
does not say which. So every process first reports to process 0 on the coordinator's port; once
all are there, or time is up, process 0 answers each of them.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

import jax

from replay_jax.errors import UserError

RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class Cluster:
    """Where process 0 listens ("host:port"), how many processes there are, and which this is.

    `hosts` are their addresses by process id where they are known, for messages.
    """

    coordinator: str
    num_processes: int
    process_id: int
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(
                f"The coordinator is HOST:PORT, such as 10.0.0.2:8476, not {self.coordinator!r}."
            )
        if not 0 <= self.process_id < self.num_processes:
            raise UserError(
                f"Process {self.process_id} of {self.num_processes} does not exist; ids go from 0 "
                f"to {self.num_processes - 1}."
            )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of process 0."""
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True)
class Roll:
    """All processes of a run, present: on process 0 a connection to each other, there one to it.

    `names` are the hosts by process id: on process 0 of all, elsewhere of process 0 alone.
    """

    cluster: Cluster
    names: Mapping[int, str]
    connections: Mapping[int, socket.socket]

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections.values():
            connection.close()


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: float = 300.0,
) -> Cluster:
    """Join all processes of a run; call it before JAX is used, once, with the same numbers on each.

    On a TPU VM, GKE or Slurm everything may be left out: JAX finds it. `timeout` (seconds) is how
    long to wait for the others. On CPU the processes talk through gloo.

    Raises:
        UserError: processes did not arrive (the message names them), two have the same id, the
            coordinator does not answer, or the cluster could not be found and was not given.
    """
    roll = join(coordinator, num_processes, process_id, timeout=timeout)
    roll.close()
    connect(roll.cluster, timeout=timeout, preemption_service=True)
    return roll.cluster


def join(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, timeout: float
) -> Roll:
    """The first half of `initialize`: find the cluster and call the roll; JAX is not started.

    The connections of the roll stay open, for whatever the processes have to say to each other.
    """
    cluster = _detect(coordinator, num_processes, process_id, timeout)
    if cluster.num_processes == 1:
        return Roll(cluster, {0: socket.gethostname()}, {})
    return call_roll(cluster, timeout)


def connect(cluster: Cluster, *, timeout: float, preemption_service: bool) -> None:
    """The second half of `initialize`, of processes that are all there: start JAX on them.

    With the preemption service JAX takes SIGTERM for itself (`multihost_utils`); without it the
    handlers of Python stay.
    """
    _keep_from_proxies(cluster.address[0])
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", preemption_service)
    jax.distributed.initialize(
        cluster.coordinator,
        cluster.num_processes,
        cluster.process_id,
        initialization_timeout=max(1, round(timeout)),
    )


def _keep_from_proxies(host: str) -> None:
    """Have gRPC, through which JAX talks to process 0, not ask a proxy of the web for it.

    gRPC takes `http_proxy` and its like for all that it connects to and `no_grpc_proxy`, else
    `no_proxy`, for the exceptions (its docs/environment_variables). Where there is no proxy nothing
    is said, as JAX warns of any word about one.
    """
    if not any(os.environ.get(name) for name in ("grpc_proxy", "https_proxy", "http_proxy")):
        return
    for name in ("no_grpc_proxy", "no_proxy"):
        if name in os.environ:
            host = f"{os.environ[name]},{host}"
            break
    os.environ["no_grpc_proxy"] = host


def call_roll(cluster: Cluster, timeout: float) -> Roll:
    """Wait until every process of a cluster of several has reported.

    Raises UserError on every process that has reported if some have not after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    if cluster.process_id == 0:
        return _collect(cluster, deadline, timeout)
    return Roll(cluster, {0: cluster.address[0]}, {0: _report(cluster, deadline, timeout)})


def _collect(cluster: Cluster, deadline: float, timeout: float) -> Roll:
    """Process 0: take reports until all are there, then let everyone go (an empty verdict)."""
    names = {0: socket.gethostname()}
    waiting: dict[int, socket.socket] = {}
    verdict = ""
    with _listening(cluster) as server:
        while len(names) < cluster.num_processes and not verdict:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
                connection.settimeout(5.0)
                word, name = _line(connection).split(" ", 1)
                number = int(word)
            except (OSError, ValueError):  # nobody, or somebody who is not of this run
                if time.monotonic() >= deadline:
                    verdict = _missing(names, cluster, timeout)
                continue
            if number == 0 or (number in waiting and not _has_gone(waiting[number])):
                verdict = (
                    f"Process {number} exists twice, on {names[number]} and {name}; give every "
                    "process an id of its own."
                )
                number = -len(waiting) - 1  # only to answer it
            names[number] = name
            waiting[number] = connection
        for connection in waiting.values():
            with contextlib.suppress(OSError):
                connection.sendall(f"{verdict}\n".encode())
    roll = Roll(cluster, names, waiting)
    if verdict:
        roll.close()
        raise UserError(verdict)
    return roll


def _listening(cluster: Cluster) -> socket.socket:
    port = cluster.address[1]
    try:
        return socket.create_server(("", port), backlog=cluster.num_processes)
    except OSError as error:
        raise UserError(
            f"Process 0 cannot listen on port {port} of the coordinator {cluster.coordinator}: "
            f"{error.strerror}; name another port on all hosts."
        ) from error


def _has_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed a connection, as a restarted process has its old one."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(5.0)


def _report(cluster: Cluster, deadline: float, timeout: float) -> socket.socket:
    """Another process: report to process 0, and return the connection when it says go.

    Raises UserError with its verdict, or if it does not answer.
    """
    while time.monotonic() < deadline:
        connection = None
        try:
            connection = socket.create_connection(cluster.address, timeout=RETRY_SECONDS)
            connection.sendall(f"{cluster.process_id} {socket.gethostname()}\n".encode())
            # Process 0 may have started later than this one: give it its whole time.
            connection.settimeout(timeout + 5.0)
            verdict = _line(connection)
        except OSError:
            if connection is not None:
                connection.close()
            time.sleep(RETRY_SECONDS)
            continue
        if verdict:
            connection.close()
            raise UserError(verdict)
        return connection
    raise UserError(
        f"Process 0 did not answer at {cluster.coordinator} within {timeout:.0f} s; start it "
        f"there, or tell process {cluster.process_id} where it is."
    )


def _line(connection: socket.socket) -> str:
    """One line, and not a byte more: what follows is for others to read.

    Raises ConnectionError if the connection ends before the line does.
    """
    with connection.makefile("rb", buffering=0) as unbuffered:
        line = unbuffered.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError("closed by the other side")
    return line.decode(errors="replace").strip()


def _missing(names: dict[int, str], cluster: Cluster, timeout: float) -> str:
    absent = [n for n in range(cluster.num_processes) if n not in names]
    known = dict(enumerate(cluster.hosts))
    which = ", ".join(f"{n} ({known[n]})" if n in known else str(n) for n in absent)
    there = ", ".join(f"{n} ({name})" for n, name in sorted(names.items()))
    return (
        f"{len(absent)} of {cluster.num_processes} processes did not arrive within "
        f"{timeout:.0f} s: {which}; look at the logs of those hosts (arrived: {there})."
    )


def _detect(
    coordinator: str | None, num_processes: int | None, process_id: int | None, timeout: float
) -> Cluster:
    """Fill in what was not given as `jax.distributed.initialize` would."""
    if num_processes is not None and num_processes < 1:
        raise UserError(f"There cannot be {num_processes} processes; a run has at least 1.")
    if num_processes == 1:
        return Cluster(coordinator or "localhost:0", 1, process_id or 0)
    if coordinator is not None and num_processes is not None and process_id is not None:
        return Cluster(coordinator, num_processes, process_id)
    # The roll needs the addresses before JAX connects, and JAX has no public name for this.
    from jax._src.clusters import ClusterEnv

    found = ClusterEnv.auto_detect_unset_distributed_params(
        coordinator, num_processes, process_id, None, None, max(1, round(timeout))
    )
    if None in found[:3]:
        raise UserError(
            "No cluster was found on this host; give the coordinator, the number of processes and "
            "the id of this one: --coordinator=HOST:PORT --num_processes=N --process_id=I"
        )
    kinds = [
        k for k in ClusterEnv._cluster_types if not k.opt_in_only_method and k.is_env_present()
    ]
    workers = getattr(kinds[0], "_get_worker_list_in_slice", None) if kinds else None
    hosts = tuple(workers()) if workers else ()
    return Cluster(*found[:3], hosts=hosts if len(hosts) == found[1] else ())  # type: ignore[arg-type]
