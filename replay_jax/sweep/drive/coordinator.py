"""The loop of a sweep: begin what is ready, record what has ended, drop what is no longer needed.

Only the coordinator decides; workers train. All that it knows is on disk, so it can die at any
moment and be started again.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol

from replay_jax.data.tokens.store import TokenStore
from replay_jax.errors import UserError
from replay_jax.sweep.drive.live import SweepView
from replay_jax.sweep.drive.progress import ProgressBoard
from replay_jax.sweep.drive.published import Published
from replay_jax.sweep.drive.settling import settle
from replay_jax.sweep.drive.tracking import Tracking
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.scheduler import Scheduler
from replay_jax.sweep.plan.work import Task
from replay_jax.sweep.store.aside import set_aside
from replay_jax.sweep.store.environment import software
from replay_jax.sweep.store.known import saved_states
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.job import EdgeJob, make_job
from replay_jax.sweep.train.messages import (
    Advanced,
    Ended,
    Failed,
    Interrupted,
    Lost,
    Message,
    Started,
)
from replay_jax.training.config import Profile

# A job whose process is lost this often without coming further is given up.
_MOST_LOSSES = 3
_POLL_SECONDS = 0.2
# Seconds before an edge is tried again that a fault of storage or network ended.
PAUSES = (5.0, 20.0, 80.0)


class Executor(Protocol):
    """Whatever trains jobs: worker processes of this machine, or a Ray cluster."""

    slots: int  # jobs that may be submitted at once
    workers: int  # processes or machines that train side by side
    lanes: int  # jobs that each of them trains at once

    def submit(
        self, edge: int, job: EdgeJob, *, after: int | None, profile: Profile | None
    ) -> None:
        """Begin a job; `after` is the edge that it goes on from, if that was trained just now."""

    def poll(self, seconds: float) -> list[Message]:
        """What has happened, waiting at most `seconds` for something to."""

    def stop(self) -> None:
        """Ask all running jobs to save their states and end."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        results: number of finished runs.
        failures: a line for every run that failed.
        workers: how many processes or machines could train side by side.
    """

    results: int
    failures: tuple[str, ...]
    workers: int


class Coordinator:
    """The coordinator's loop and what it remembers between messages.

    `is_damaged` says, when it is over, that a saved state could not be read, so that what is left
    must be planned anew.
    """

    def __init__(
        self,
        plan: Plan,
        store: WorkStore,
        stores: Mapping[str, TokenStore],
        executor: Executor,
        view: SweepView,
        tracking: Tracking,
        profile: Profile | None,
        *,
        accept_environment: bool,
        retry_failed: bool,
    ) -> None:
        self._accept_environment = accept_environment
        self._plan, self._store, self._stores = plan, store, stores
        self._executor, self._view, self._profile = executor, view, profile
        self._tracking = tracking
        self._scheduler = Scheduler(plan.tasks, workers=executor.workers * executor.lanes)
        self._board = ProgressBoard(plan)
        self._losses: dict[int, int] = {}
        self._faults: dict[int, int] = {}
        self._failures: dict[int, str] = {}
        saved = saved_states(store).items()
        self._kept = {digest for digest, step in saved if plan.passes(digest, step)}
        self._ends = {edge.stop.digest for edge in plan.edges}
        self._begun: Counter[int] = Counter()
        self._published = Published(store, [run.id for run in plan.runs])
        self.interrupted = self.is_damaged = False
        if not retry_failed:
            self._skip_known_failures()

    def run(self) -> None:
        """Until nothing runs and nothing can begin.

        Raises:
            UserError: the first job cannot be done as it was asked for.
        """
        self._published.write()
        self._drop_states(self._kept)
        while not self._scheduler.is_over():
            self._begin_jobs()
            if self.interrupted and not self._scheduler.running:
                break
            for message in self._executor.poll(_POLL_SECONDS):
                self._handle(message)
            self._show()
        self._published.write()
        self._store.write_progress(self._board.fact(over=True))

    def interrupt(self) -> None:
        """Ask all jobs to save and end; the second time, end without."""
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self._executor.stop()
        self._view.say("interrupted: saving the states of the edges under way")

    def outcome(self) -> Outcome:
        """How it ended."""
        lines = [
            f"{self._plan.runs[number].name} ({self._plan.runs[number].id}): {reason}"
            for number, reason in sorted(self._failures.items())
        ]
        return Outcome(len(self._published), tuple(lines), self._executor.workers)

    def _begin_jobs(self) -> None:
        while not self.interrupted and len(self._scheduler.running) < self._executor.slots:
            task = self._scheduler.take()
            if task is None:
                return
            self._store.clear_failure(task.stop.digest)
            job = make_job(
                self._plan,
                task,
                store=self._store,
                stores=self._stores,
                accept_environment=self._accept_environment,
            )
            self._executor.submit(task.edge, job, after=task.parent, profile=self._profile)

    def _handle(self, message: Message) -> None:
        match message:
            case Started(edge, where):
                self._begun[edge] += 1
                self._board.start(edge, where)
            case Advanced(edge, progress):
                if self._board.advance(edge, progress):
                    self._losses[edge] = self._faults[edge] = 0
            case Ended(edge, step, finished):
                self._board.end(edge, step)
                self._finish(edge) if finished else self._scheduler.put_back(edge)
            case Failed(edge, reason, kind="mistake") if not self._board.steps_done:
                # Nothing is trained yet, and most of the runs will have the same fault.
                run = self._plan.runs[self._plan.edges[edge].runs[0]]
                raise UserError(f"run '{run.name}': {reason}")
            case Failed(edge):
                self._board.end(edge, None)
                self._take_failure(message)
            case Lost(edge, reason):
                self._board.end(edge, None)
                self._losses[edge] = self._losses.get(edge, 0) + 1
                if self._losses[edge] < _MOST_LOSSES:
                    self._view.say(f"{reason}; trying again from the last checkpoint")
                    self._scheduler.put_back(edge)
                else:
                    self._fail(Failed(edge, f"{reason}, {_MOST_LOSSES} times", "", "transient"))
            case Interrupted() if not self.interrupted:
                self.interrupt()

    def _finish(self, edge: int) -> None:
        task = self._scheduler.finish(edge)
        own = self._saved_inside(task) if self._begun[edge] > 1 else set()
        if task.save:
            own.add(task.stop.digest)
        self._kept |= own
        for number in task.ending:
            reason = settle(self._plan, number, self._store)
            if reason is not None:
                self._failures[number] = reason
                self._record_failure(task, Failed(edge, reason, ""))
            self._published.add(self._plan.runs[number].id)
            self._tracking.add(self._plan.runs[number].id)
            self._view.run_ended(number, reason)
        self._drop_states(own | {task.start.digest})
        self._published.write_if_due()

    def _take_failure(self, failed: Failed) -> None:
        """Try again what may pass, go back before what is damaged, and record the rest."""
        edge, tries = failed.edge, self._faults.get(failed.edge, 0)
        if failed.kind == "transient" and tries < len(PAUSES):
            self._faults[edge] = tries + 1
            self._view.say(f"{failed.reason}; trying again in {PAUSES[tries]:.0f} s")
            self._scheduler.rest(edge, until=time.monotonic() + PAUSES[tries])
        elif failed.state:
            self._set_aside(failed)
        else:
            self._fail(failed)

    def _set_aside(self, failed: Failed) -> None:
        """Put a damaged state out of the way: what lies before it is trained from again."""
        where = set_aside(self._store, failed.state)
        self._kept.discard(failed.state)
        self._view.say(f"{failed.reason}; kept as {where}, going on from the state before it")
        if self._scheduler.starts_from(failed.edge, failed.state):
            # What led to it may be done and gone, so all that is left is planned anew.
            self._scheduler.fail(failed.edge, failed.reason)
            self.is_damaged = True
        else:
            self._scheduler.put_back(failed.edge)

    def _fail(self, failed: Failed) -> None:
        lost = self._scheduler.fail(failed.edge, failed.reason)
        self._record_failure(lost[0], failed)
        self._give_up(lost, failed.reason)

    def _give_up(self, lost: Sequence[Task], reason: str) -> None:
        for number in sorted({number for task in lost for number in task.ending}):
            self._failures[number] = reason
            self._view.run_ended(number, reason)

    def _skip_known_failures(self) -> None:
        """Spare the edges that failed here before and would fail again, bit for bit."""
        environments = self._store.environments()
        known = self._store.failures()
        for edge, task in self._scheduler.tasks.items():
            fact = known.get(task.stop.digest)
            if fact is None or fact["kind"] != "deterministic" or self._scheduler.has_failed(edge):
                continue
            trained_in = environments.get(fact["environment"])
            if trained_in is not None and trained_in["software"] == software():
                reason = f"{fact['reason']} (known from before: --retry_failed tries it again)"
                self._give_up(self._scheduler.fail(edge, reason), reason)

    def _record_failure(self, task: Task, failed: Failed) -> None:
        fact: dict[str, Any] = {
            "runs": [self._plan.runs[number].id for number in task.runs],
            "start_step": task.start.step,
            "stop_step": task.stop.step,
            "kind": failed.kind,
            "environment": failed.environment,
            "reason": failed.reason,
            "details": failed.details,
        }
        self._store.write_failure(task.stop.digest, fact)

    def _drop_states(self, among: Set[str]) -> None:
        """Delete those of these saved states that no unfinished task begins from.

        With `keep_states`, only those that guard the middle of an edge: neither this plan nor the
        one that saved them has runs part or end there.
        """
        keep = self._plan.runs[0].config.execution.keep_states
        for digest in self._kept & among:
            if self._scheduler.needs(digest) or digest in self._plan.spared:
                continue
            if not keep or (digest not in self._ends and self._store.is_checkpoint(digest)):
                self._store.drop_state(digest)
                self._kept.remove(digest)

    def _saved_inside(self, task: Task) -> set[str]:
        """Saved states between the ends of a task, left by processes that were lost."""
        chain = self._plan.runs[task.runs[0]].chain
        inside = {
            chain[step].tobytes().hex() for step in range(task.start.step + 1, task.stop.step)
        }
        return inside & self._store.state_names()

    def _show(self) -> None:
        self._view.show(self._board, waiting=self._scheduler.waiting)
        fact = self._board.due_fact()
        if fact is not None:
            self._store.write_progress(fact)
