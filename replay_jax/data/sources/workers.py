"""Jobs in processes of their own, as many as there are cores for them, and how far they are."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from replay_jax.data.sources.documents import role_borders
from replay_jax.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
# work(job, threads, report), where report(*counts) says how far the job is.
Work = Callable[[Job, int, Callable[..., None]], Result]

# Of input: less is done sooner than another process is up (about 2 seconds).
_BYTES_PER_PROCESS = 16 * 2**20


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(sizes: list[int]) -> int:
    """How many processes jobs of these sizes (bytes of input) are spread over.

    No more than there are cores or largest jobs: where one job is most of the work, it gets the
    cores as threads.
    """
    if not sizes or max(sizes) == 0:
        return 1
    wanted = min(round(sum(sizes) / max(sizes)), sum(sizes) // _BYTES_PER_PROCESS)
    return max(1, min(available_cores(), wanted))


def run_jobs(
    work: Work[Job, Result],
    jobs: Iterable[Job],
    *,
    processes: int,
    report: Callable[..., None],
) -> Iterator[tuple[Job, Result]]:
    """Every job with its result, as they end; jobs are asked for as processes become free.

    `report(job, *counts)` says how far a job is. With one process all is done in this one. What a
    job raises is raised here, and the others are stopped.
    """
    if processes == 1:
        for job in jobs:
            yield job, work(job, available_cores(), lambda *counts, job=job: report(job, *counts))
        return
    context = get_context("spawn")  # a fork would copy JAX's threads, without the threads
    said, stop = context.SimpleQueue(), context.Event()
    threads = max(1, available_cores() // processes)
    pool = ProcessPoolExecutor(processes, context, _begin, (said, stop, threads))
    waiting: dict[Future[Result], tuple[int, Job]] = {}
    coming = enumerate(jobs)
    try:
        while True:
            # A second one each, so that none waits for its next.
            for number, job in islice(coming, 2 * processes - len(waiting)):
                waiting[pool.submit(_do, work, number, job)] = number, job
            if not waiting:
                return
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            running = dict(waiting.values())
            while not said.empty():
                number, *counts = said.get()
                if number in running:
                    report(running[number], *counts)
            for future in done:
                yield waiting.pop(future)[1], future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that prepared data was ended from outside, perhaps for want of memory; "
            "run again, finished parts are kept"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class PrepareProgress:
    """How far the preparation of one source is.

    documents, text_bytes, tokens: written in this call. input_bytes: size of what is read in this
    call, less the share that the source leaves out, and read_bytes how much of it is done.
    """

    source: str
    stage: str  # "training tokenizer" | "tokenizing"
    documents: int
    text_bytes: int
    tokens: int
    input_bytes: int
    read_bytes: int


ProgressCallback = Callable[[PrepareProgress], None]


class Progress:
    """Adds up what jobs say; each has a `source`, its `config` and a `part` with its `bytes`."""

    def __init__(self, stage: str, jobs: Sequence[Any], callback: ProgressCallback) -> None:
        self._stage, self._callback = stage, callback
        self._counts: dict[str, dict[Any, tuple[int, int, int, int]]] = {}
        self._input: dict[str, int] = {}
        for job in jobs:
            self._input[job.source] = self._input.get(job.source, 0) + _wanted_bytes(job)
        for source in self._input:
            self._tell(source)

    def __call__(self, job: Any, documents: int, text_bytes: int, tokens: int) -> None:
        """A job is this far."""
        # Text may be longer than its compressed input.
        read = min(text_bytes, _wanted_bytes(job))
        own = self._counts.setdefault(job.source, {})
        own[job.part] = documents, text_bytes, tokens, read
        self._tell(job.source)

    def ended(self, job: Any) -> None:
        """A job is done, perhaps without having said anything."""
        own = self._counts.setdefault(job.source, {})
        documents, text_bytes, tokens, _ = own.get(job.part, (0, 0, 0, 0))
        own[job.part] = documents, text_bytes, tokens, _wanted_bytes(job)
        self._tell(job.source)

    def _tell(self, source: str) -> None:
        counts = self._counts.get(source, {}).values()
        documents, text_bytes, tokens, read = (sum(c[i] for c in counts) for i in range(4))
        self._callback(
            PrepareProgress(
                source, self._stage, documents, text_bytes, tokens, self._input[source], read
            )
        )


def _wanted_bytes(job: Any) -> int:
    """About how much of a part is to be done: a document that is not wanted is no work."""
    _, end = role_borders(job.config, job.part.role)
    return round(job.part.bytes * end / 2**64)


_said: Any = None
_stop: Any = None
_threads = 1


class _Stopped(Exception):
    """The parent wants no more of this."""


def _begin(said: Any, stop: Any, threads: int) -> None:
    global _said, _stop, _threads
    _said, _stop, _threads = said, stop, threads
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Work[Job, Result], number: int, job: Job) -> Result:
    def report(*counts: int) -> None:
        if _stop.is_set():
            raise _Stopped
        _said.put((number, *counts))

    return work(job, _threads, report)
