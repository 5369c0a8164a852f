"""What a working directory holds that no run of its last sweep needs, and its size.

States of sweeps that were edited since and of runs that failed, states that were set aside as
damaged, and saves that were cut off. Spans, evaluations and results stay: they are small, and any
sweep may use them.
"""

import dataclasses
from collections.abc import Set

from etils import epath

from replay_jax.sweep.plan.chain import Shared
from replay_jax.sweep.store.stored_run import ADDED, restore_run
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.saving.saved import is_complete

_UNNEEDED = "of no run of the last sweep that needs it"


@dataclasses.dataclass(frozen=True)
class Orphan:
    """A folder that may go: where it is, why, and its size in bytes."""

    path: epath.Path
    why: str
    size: int


def orphans(store: WorkStore) -> list[Orphan]:
    """All that may go, by the last sweep of the directory.

    A state is needed if some run of the sweep passes through it that is neither finished nor
    failed for good, or if it stands where runs part or end and `execution.keep_states` keeps it.
    The parameters at the ends of its runs are needed if `execution.keep_ends` keeps them.

    Raises:
        UserError: no sweep was started in the directory, or another version wrote it.
    """
    return unneeded(store, states=_needed_states(store), ends=_ends_to_keep(store))


def unneeded(store: WorkStore, *, states: Set[str], ends: Set[str]) -> list[Orphan]:
    """All that may go but these states, and the parameters at these ends of runs."""
    found = []
    for path in _folders(store.root / "states"):
        if not is_complete(path):
            found.append(Orphan(path, "a save that was cut off", _size(path)))
        elif path.name not in states:
            found.append(Orphan(path, _UNNEEDED, _size(path)))
    for path in _folders(store.root / "ends"):
        if path.name not in ends or not is_complete(path):
            found.append(Orphan(path, _UNNEEDED, _size(path)))
    for path in _folders(store.root / "damaged"):
        found.append(Orphan(path, "a damaged state", _size(path)))
    return found


def remove(found: list[Orphan]) -> None:
    """Delete them; only for the holder of the lock."""
    for orphan in found:
        # Its mark first: from then on it is not taken for whole.
        (orphan.path / "commit_success.txt").unlink(missing_ok=True)
        orphan.path.rmtree()


def bytes_in_words(size: int) -> str:
    """A size for people: 1.5 GB."""
    for unit, each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= each:
            return f"{size / each:.3g} {unit}"
    return f"{size} bytes"


def _needed_states(store: WorkStore) -> set[str]:
    saved = {path.name for path in _folders(store.root / "states")}
    needed, shared = set[str](), Shared()
    hopeless = {d for d, fact in store.failures().items() if fact["kind"] == "deterministic"}
    finished = store.finished_runs()
    for fact in store.runs():
        ends = {node["digest"] for node in fact["path"]}
        if fact["config"]["execution"]["keep_states"]:
            needed |= ends & saved
        if fact["id"] in finished or ends & hopeless:
            continue
        if saved - needed:
            needed |= {state.tobytes().hex() for state in restore_run(fact, shared).chain} & saved
    return needed


def _ends_to_keep(store: WorkStore) -> set[str]:
    """Where runs of the last sweep end whose parameters are kept."""
    return {
        fact["path"][-1]["digest"]
        for fact in store.runs()
        if {**ADDED["execution"], **fact["config"]["execution"]}["keep_ends"]
    }


def _folders(place: epath.Path) -> list[epath.Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.exists() else []


def _size(path: epath.Path) -> int:
    return sum(item.stat().length if item.is_file() else _size(item) for item in path.iterdir())
