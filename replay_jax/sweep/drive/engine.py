"""Carry a plan out in a working directory, with the executor that its configuration names.

The public way in, after `plan.plan_sweep`:

    with WorkdirLock(workdir) as lock:
        outcome = run_sweep(plan, lock, stores=stores, about={}, ray_address=None,
                            profile_steps=None, console=console)
"""

import contextlib
import dataclasses
import functools
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epath
from rich.console import Console

from replay_jax.data.sources.workers import available_cores
from replay_jax.data.tokens.store import TokenStore
from replay_jax.errors import UserError
from replay_jax.model.architecture import parameter_counts
from replay_jax.sweep.drive.coordinator import Coordinator, Outcome
from replay_jax.sweep.drive.leftovers import say_ends, say_orphans, say_unsent
from replay_jax.sweep.drive.live import SweepView
from replay_jax.sweep.drive.settling import settle_all
from replay_jax.sweep.drive.tracking import Tracking
from replay_jax.sweep.executors.local.choice import (
    WorkerChoice,
    choose_workers,
    ray_choice,
    training_bytes,
)
from replay_jax.sweep.executors.local.machine import local_devices, machine_memory
from replay_jax.sweep.executors.local.workers import LocalWorkers
from replay_jax.sweep.plan.plan import Plan, refresh
from replay_jax.sweep.store import known
from replay_jax.sweep.store.environment import anywhere, refusal, software
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.stored_run import run_fact, write_runs
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.config import Profile

if TYPE_CHECKING:
    from replay_jax.sweep.executors.hosts.others import Hosts


def run_sweep(
    plan: Plan,
    lock: WorkdirLock,
    *,
    stores: Mapping[str, TokenStore],
    about: Mapping[str, Any],
    ray_address: str | None,
    profile_steps: tuple[int, int] | None,
    console: Console,
    hosts: "Hosts | None" = None,
    accept_environment: bool = False,
    retry_failed: bool = False,
    kept: "KeptExecutor | None" = None,
) -> Outcome:
    """Train what is missing of a plan, in the directory of a held lock, and write results.jsonl.

    `about` is kept beside the sweep's runs: what was asked, in words. `hosts` are those of executor
    "hosts", for which this is process 0; `kept` holds the executor of sweeps before and after. With
    `accept_environment`, what is missing is trained although the directory holds results of another
    environment; with `retry_failed`, also what failed before and would fail again.

    Raises:
        UserError: the directory is of other data, another version or environment, or cannot be
            written; nothing has been trained, and an earlier sweep's facts are as they were.
        KeyboardInterrupt: it was interrupted (Ctrl-C or SIGTERM); all states are saved.
        LostHost: one of the hosts is gone.
    """
    with _place_named(lock.workdir), contextlib.ExitStack() as stack:
        store = WorkStore(lock.workdir, lock.lease)
        if plan.tasks and not accept_environment:
            on_ray = plan.runs[0].config.execution.executor == "ray"
            _check_software(store, trains_here=not on_ray)
        choice = _choose(plan, store, console)
        lanes = _lanes(plan)
        store.create(_common(plan, choice, lanes))
        store.drop_unfinished_states()
        write_runs(store, [run_fact(plan, number) for number in range(len(plan.runs))], about)
        settle_all(plan, store)
        done = known.done(store)
        plan = refresh(plan, done)
        say_orphans(plan, store, done, console)
        logging = {run.id: run.config.logging for run in plan.runs}
        tracking = stack.enter_context(Tracking(store, logging))
        make = functools.partial(_executor, plan, store, choice, lanes, lock.fd, ray_address, hosts)
        executor = (kept or stack.enter_context(KeptExecutor())).of((choice, lanes), make)
        profile, is_over = _profile(store, profile_steps), False
        how = {"accept_environment": accept_environment, "retry_failed": retry_failed}
        while not is_over:
            with SweepView(plan, console) as view:
                sweep = Coordinator(plan, store, stores, executor, view, tracking, profile, **how)
                with _signals(sweep.interrupt):
                    sweep.run()
            is_over = sweep.interrupted or not sweep.is_damaged
            plan = refresh(plan, known.done(store))
    say_ends(plan, store, console)
    if tracking.fault is not None:
        say_unsent(store, tracking.fault, console)
    if sweep.interrupted:
        raise KeyboardInterrupt
    return sweep.outcome()


class KeptExecutor:
    """The executor of one working directory, for sweeps of it that follow one another.

    A context manager: worker processes start once, with what they compiled, and end with it.
    """

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._executor: Any = None
        self._key: object = None

    def __enter__(self) -> "KeptExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def of(self, key: object, make: Callable[[], Any]) -> Any:
        """The executor at hand, or a new one in its place if the key is another."""
        if self._executor is None or key != self._key:
            self._open.close()
            self._executor, self._key = self._open.enter_context(make()), key
        return self._executor


@contextlib.contextmanager
def _place_named(root: epath.Path) -> Iterator[None]:
    """A full or read-only disk, or a file where a folder should be, is the user's to mend."""
    try:
        yield
    except BrokenPipeError:  # whoever read our output is gone
        raise
    except OSError as error:
        where, why = error.filename or root, error.strerror or error
        raise UserError(f"cannot write {where} in the working directory {root}: {why}") from error


def _check_software(store: WorkStore, *, trains_here: bool) -> None:
    """Refuse other code or versions at once; whatever trains refuses another machine itself.

    What trains elsewhere may have an accelerator's packages, which this machine lacks.
    """
    known, here = [found["software"] for found in store.environments().values()], software()
    if not trains_here:
        known, here = [anywhere(each) for each in known], anywhere(here)
    refused = refusal(str(store.root), [{"software": each} for each in known], {"software": here})
    if refused is not None:
        raise UserError(refused)


def _choose(plan: Plan, store: WorkStore, console: Console) -> WorkerChoice:
    """How edges are spread; the threads of a working directory stay what they were."""
    execution = plan.runs[0].config.execution
    known = store.common()
    if not execution.threads and "threads" in known:
        execution = dataclasses.replace(execution, threads=known["threads"])
    if execution.executor == "ray":
        return ray_choice(execution)
    if execution.executor == "hosts":
        return WorkerChoice(1, execution.threads, "all hosts train every edge together")
    needed = [training_bytes(run.config) for run in plan.runs]
    choice = choose_workers(
        execution,
        devices=local_devices(),
        needed=None if None in needed else max(each for each in needed if each is not None),
        parameters=max(parameter_counts(run.config.model).total for run in plan.runs),
        cores=available_cores(),
        memory_bytes=machine_memory(),
    )
    count = f"{choice.workers} worker process{'es' if choice.workers > 1 else ''}"
    threads = f" with {choice.threads} thread{'s' if choice.threads > 1 else ''} each"
    console.print(f"{count}{threads if choice.threads else ''}: {choice.reason}", highlight=False)
    return choice


def _lanes(plan: Plan) -> int:
    """How many edges a process trains side by side.

    Raises:
        UserError: several, and the mesh splits a model or its batch.
    """
    lanes = plan.runs[0].config.execution.population
    mesh = plan.runs[0].config.mesh
    if lanes > 1 and max(mesh.replica, mesh.fsdp, mesh.tensor) > 1:
        raise UserError(
            f"execution.population is {lanes}, but {mesh} splits a single model: "
            "use mesh.replica = 0, fsdp = 0, tensor = 1, or execution.population = 1"
        )
    return lanes


def _common(plan: Plan, choice: WorkerChoice, lanes: int) -> dict[str, Any]:
    """What all results of a working directory must have in common."""
    common: dict[str, Any] = {"population": lanes}
    if choice.threads:
        common["threads"] = choice.threads
    for run in plan.runs:
        for name, view in run.views.items():
            common[f"data of '{name}'"] = view.fingerprint
    return common


def _executor(
    plan: Plan,
    store: WorkStore,
    choice: WorkerChoice,
    lanes: int,
    lock_fd: int,
    ray_address: str | None,
    hosts: "Hosts | None",
) -> Any:
    execution = plan.runs[0].config.execution
    if execution.executor == "local":
        if "://" in str(store.root):
            raise UserError(
                f"{store.root} is not on this machine: use --executor=hosts or ray, "
                "or a local --workdir"
            )
        return LocalWorkers(Path(store.root), choice, lanes=lanes, lock_fd=lock_fd)
    # What trains in this process, or on Ray, is slow to import.
    if execution.executor == "hosts":
        assert hosts is not None
        from replay_jax.sweep.executors.hosts.edges import HostEdges

        return HostEdges(store.root, hosts, threads=choice.threads)
    from replay_jax.sweep.executors.ray.driver import RayTasks

    return RayTasks(store.root, execution, threads=choice.threads, address=ray_address)


def _profile(store: WorkStore, steps: tuple[int, int] | None) -> Profile | None:
    if steps is None:
        return None
    if "://" in str(store.root):
        raise UserError(f"--profile_steps writes to a disk, not to {store.root}: leave it out")
    return Profile(*steps, Path(store.root) / "profile")


@contextlib.contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `interrupt` on Ctrl-C and SIGTERM; only the main thread can listen to signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: interrupt()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
