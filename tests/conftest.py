"""Eight fake CPU devices, strict numerics and one cache of compiled programs for every test."""

import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fake_devices import flags

# Before any backend exists: a sharding test on one device would test nothing.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = flags(8)
# What is compiled once serves both workers of the suite and every process that a test starts: the
# first process of the suite makes the folder, all others inherit its name.
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ.get(
    "JAX_COMPILATION_CACHE_DIR"
) or tempfile.mkdtemp(prefix="replay_jax_programs_of_tests_")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import pytest

# What takes longest by the clock, in a few tests each: begun last, it leaves one worker waiting.
FIRST = [
    Path(__file__).parent / name
    for name in (
        "sweep/executors/test_hosts.py",
        "sweep/drive/test_crash.py",
        "commands/test_commands.py",
        "sweep/train/test_population_sweep.py",
        "training/mesh/test_multi_process.py",
        "compile/test_bench_device.py",
        "sweep/executors/test_executor.py",
    )
]
assert all(path.exists() for path in FIRST), FIRST


class Backwards(pytest.Dir):
    """A folder whose last file comes first."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """What the folder holds, from its end."""
        return reversed(list(super().collect()))


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Let the second worker import from the end: each of the two rewrites half of the asserts.

    That takes twice as long as all imports where nothing of it is there from a run before.
    """
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1":
        return Backwards.from_parent(parent, path=path)
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of FIRST before all others, in their order, and those by their names."""
    place = {path: (number, path) for number, path in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path, (len(FIRST), item.path)))


def pytest_collection_finish() -> None:
    """Keep what is there to stay out of garbage collections: tracing sets off hundreds of them."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def eight_devices() -> None:
    """The suite is only meaningful on eight devices; the processes that it starts have one.

    JAX is imported here: the process that gives out the tests needs none.
    """
    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")
    assert jax.device_count() == 8, f"expected 8 fake CPU devices, found {jax.device_count()}"
    os.environ["XLA_FLAGS"] = flags(1)


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Two small corpora and their configuration, for sweeps in workers with one device each."""
    from tiny_sweep import make_study

    return make_study(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="session")
def finished_sweep(study, tmp_path_factory):
    """The working directory of `tiny_sweep.SWEEP` with all states, trained once for both workers.

    Many modules read it: who wants to change it changes a copy.
    """
    from tiny_sweep import SWEEP

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    workdir, whole = base / "finished_sweep", base / "finished_sweep.whole"
    with (base / "finished_sweep.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(workdir, ignore_errors=True)
            outcome = study.train(SWEEP, workdir, here=True, execution__keep_states=True)
            assert (outcome.failures, outcome.results) == ((), len(SWEEP))
            whole.touch()
    return workdir


def pytest_unconfigure() -> None:
    """Remove the compiled programs with the session, but not those of a folder that was given."""
    programs = os.environ["JAX_COMPILATION_CACHE_DIR"]
    if "replay_jax_programs_of_tests_" in programs and "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(programs, ignore_errors=True)
