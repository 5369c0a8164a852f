"""Edges side by side on this machine: worker processes, how many, and with how many threads."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import pickle
import subprocess
import sys
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from etils import epath

from replay_jax.config.execution import ExecutionConfig
from replay_jax.errors import UserError
from replay_jax.sweep.executors.local.worker import BEAT, STOP
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import Advanced, Lost, Message, Started
from replay_jax.training.config import Profile
from replay_jax.training.mesh.devices import ENVIRONMENT

_MODULE = "replay_jax.sweep.executors.local.worker"
# Models up to this size are trained by one thread each, several at a time: see docs/sweeps.md for
# what was measured.
SMALL_MODEL_PARAMETERS = 30_000_000
# Memory of one worker beyond its states: the interpreter, XLA and compiled programs (measured).
_WORKER_BYTES = 1 << 30
# A worker needs its state several times over: gradients, activations, a state being saved.
_STATES_PER_WORKER = 6
# A worker says something every few seconds, also while it compiles.
_SILENCE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class WorkerChoice:
    """How edges are spread: processes, threads of each (0: not limited), and why."""

    workers: int
    threads: int
    reason: str


def choose_workers(
    execution: ExecutionConfig,
    *,
    platform: str,
    parameters: int,
    cores: int,
    memory_bytes: int,
) -> WorkerChoice:
    """Decide how many processes train side by side, and with how many threads each.

    The rule looks at the largest model and the machine only, never at how many edges happen to be
    ready or at what else is running, so that a sweep and its repetition agree to the last bit: the
    number of threads changes a CPU's float results, the number of processes does not.

    Args:
        execution: what the user fixed; 0 leaves it to the rule.
        platform: "cpu", "gpu" or "tpu".
        parameters: of the largest model.
        cores: that this process may use.
        memory_bytes: of this machine.
    """
    if platform != "cpu":
        return WorkerChoice(1, 0, f"one process, because it uses all of the {platform}'s devices")
    small = parameters <= SMALL_MODEL_PARAMETERS
    threads = execution.threads or (1 if small else cores)
    each = _WORKER_BYTES + _STATES_PER_WORKER * 12 * parameters
    fitting = max(1, min(cores // threads, memory_bytes // each))
    workers = execution.workers or fitting
    size = f"{parameters / 1e6:.3g}M parameters"
    if execution.threads or execution.workers:
        reason = "as the configuration says"
    elif small:
        reason = f"models of {size} are too small for several threads"
    else:
        reason = f"a model of {size} keeps {cores} threads busy"
    return WorkerChoice(workers, threads, reason)


def ray_choice(execution: ExecutionConfig) -> WorkerChoice:
    """Threads of an edge on a Ray cluster: on CPU as many as it asks CPUs for, else one."""
    asked = dict(execution.ray_resources)
    if "GPU" in asked or "TPU" in asked or execution.ray_slice is not None:
        return WorkerChoice(0, 0, "as Ray places them")
    cpus = int(asked["CPU"]) if "CPU" in asked else 1
    return WorkerChoice(0, execution.threads or max(1, cpus), "as Ray places them")


def local_platform() -> str:
    """The platform that JAX will use here, found out without starting it in this process.

    A process that starts JAX takes the accelerators, which the worker is to have.

    Raises:
        UserError: JAX does not start, as where another process holds the accelerators.
    """
    named = os.environ["JAX_PLATFORMS"] if "JAX_PLATFORMS" in os.environ else ""
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if named == "cpu" or not (named or plugins or importlib.util.find_spec("libtpu")):
        return "cpu"
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"],
        capture_output=True,
        text=True,
        check=False,
    )
    platform = asked.stdout.strip()
    if asked.returncode or not platform:
        lines = asked.stderr.strip().split("\n")
        setting = f"JAX_PLATFORMS={named}" if named else "JAX_PLATFORMS is not set"
        raise UserError(
            f"JAX finds no devices here ({setting}): {lines[-1]}; set JAX_PLATFORMS to a platform "
            "that is there, such as cpu"
        )
    return platform


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@dataclasses.dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path
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
        self._root, self._threads, self._lock_fd = root, choice.threads, lock_fd
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
        settings = jax_settings(self._root, self._threads)
        threads = {"NPROC": settings["NPROC"]} if self._threads else {}
        arguments = (str(theirs.fileno()), str(self._root), str(os.getpid()), str(self.lanes))
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                # The lock, where there is one, is free only when the last worker is gone.
                pass_fds=(theirs.fileno(), *([self._lock_fd] if self._lock_fd >= 0 else [])),
                # What the user set goes before, but for the threads, which decide the bits.
                env={**settings, **os.environ, **threads},
            )
        theirs.close()
        worker = _Worker(process, ours, log)
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


# glibc gives XLA's temporaries back after every step and faults them in again, a quarter of a small
# model's step. Kept in huge pages instead, a step of the quickstart took 0.78 of the time (one
# thread) and one of 8 layers x 256 took 0.91 (two threads); the numbers are the same
# (docs/performance.md). Freed small pieces are merged at once instead of cached, or one of them
# beside the freed temporaries would send the next step's to a new place, which is kept as well.
# Other C libraries ignore these names.
CPU_ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


def jax_settings(root: epath.PathLike, threads: int) -> dict[str, str]:
    """What XLA and JAX read when a process starts: threads, and where compiled programs are shared.

    NPROC is what XLA sizes the CPU client's thread pools by (xla/pjrt/utils.cc); measured with
    jaxlib 0.10.2, it gives the same bits as binding the process to that many cores, without
    keeping the system from moving it.
    """
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(epath.Path(root) / "compilation"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **ENVIRONMENT,
    }
    return {**settings, **CPU_ALLOCATOR, "NPROC": str(threads)} if threads else settings
