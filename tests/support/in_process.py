"""Jobs of a sweep trained in the test's own process, for tests that are not about processes.

A worker process pays for its imports and for its programs again each time; here they are had once.
What comes out is the same to the last bit, which test_executor.py and test_ray.py hold: their
workers must give what `finished_sweep` holds, and that was trained here.
"""

import contextlib
import functools
from collections.abc import Iterator
from unittest import mock

import jax
from etils import epath

from replay_jax.sweep.drive import engine
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train import edge, programs, surroundings
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import Message, Started
from replay_jax.sweep.train.outcome import work
from replay_jax.sweep.train.population import PopulationTrainer
from replay_jax.sweep.train.programs import ProgramCache
from replay_jax.training import population
from replay_jax.training.config import Profile

_WORKERS = engine.LocalWorkers


@functools.cache
def _programs(devices: int) -> ProgramCache:
    """What was compiled for so many devices."""
    return ProgramCache()


class InProcess(contextlib.nullcontext["InProcess"]):
    """An executor with one slot, whose jobs are trained while it is polled."""

    slots = workers = lanes = 1

    def __init__(self, root: epath.PathLike) -> None:
        super().__init__(self)
        self._trainer = edge.EdgeTrainer(WorkStore(root))
        self._job: tuple[int, EdgeJob, Profile | None] | None = None
        self._news: list[Message] = []

    def submit(
        self, edge: int, job: EdgeJob, *, after: int | None, profile: Profile | None
    ) -> None:
        """Take a job, to be trained at the next call of `poll`."""
        self._job = edge, job, profile
        self._news.append(Started(edge, "this process"))

    def poll(self, seconds: float) -> list[Message]:
        """Train the job that was taken last, if any; what came of it."""
        if self._job is not None:
            (number, job, profile), self._job = self._job, None
            ended = work(
                self._trainer,
                number,
                job,
                tell=self._news.append,
                should_stop=lambda: False,
                profile=profile,
            )
            self._news.append(ended)
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Nothing runs between two calls."""


class LanesInProcess(contextlib.nullcontext["LanesInProcess"]):
    """An executor whose jobs are lanes of one population, trained while it is polled."""

    workers = 1

    def __init__(self, root: epath.PathLike, lanes: int) -> None:
        super().__init__(self)
        self.slots = self.lanes = lanes
        self._news: list[Message] = []
        self._trainer = PopulationTrainer(
            WorkStore(root),
            _programs(1),
            lanes,
            tell=lambda said: self._news.append(said),
            should_stop=lambda: False,
        )

    def submit(
        self, edge: int, job: EdgeJob, *, after: int | None, profile: Profile | None
    ) -> None:
        """Let a job in, to begin when a lane is free."""
        self._trainer.admit(edge, job, profile)
        self._news.append(Started(edge, "this process"))

    def poll(self, seconds: float) -> list[Message]:
        """One update of every lane, and what came of it."""
        self._trainer.advance()
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Nothing runs between two calls."""


@contextlib.contextmanager
def in_this_process(devices: int = 1) -> Iterator[None]:
    """Local workers are this process, on one of its devices, as a worker of the suite has one.

    What is patched inside is to be undone before this ends, or it would put this back.
    """
    assert engine.LocalWorkers is _WORKERS, "a test before this one left its workers behind"

    def executor(root, choice, lanes, lock_fd):
        return LanesInProcess(root, lanes) if lanes > 1 else InProcess(root)

    def environment(mesh):
        found = surroundings_here(mesh)
        return {**found, "machine": {**found["machine"], "devices": str(devices), "threads": "1"}}

    def attached():
        return jax.devices()[:devices]

    surroundings_here = surroundings.environment_here
    with (
        mock.patch.object(engine, "LocalWorkers", executor),
        mock.patch.object(edge, "ProgramCache", lambda: _programs(devices)),
        mock.patch.object(programs, "attached_devices", attached),
        mock.patch.object(population, "attached_devices", attached),
        mock.patch.object(surroundings, "environment_here", environment),
    ):
        yield
