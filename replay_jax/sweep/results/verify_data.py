"""Compare the text that finished runs were trained on with what lies in their stores now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etils import epath

from replay_jax.data.ledger.tokens import check_tokens
from replay_jax.data.tokens.manifest import stores_of
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.errors import UserError
from replay_jax.progress import step_by_step
from replay_jax.sweep.plan.chain import Shared
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.results.record import counted_spans
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.stored_run import restore_run
from replay_jax.sweep.store.workdir import WorkStore


@dataclass(frozen=True)
class DataCheck:
    """What `verify_data` looked at, and what it found.

    Attributes:
        differences: in words.
        stores: whose every file was compared with its checksum.
        spans: trained spans whose tokens were read again.
        uncounted: spans of versions that kept no checksums of tokens.
    """

    differences: list[str]
    stores: list[Path]
    spans: int
    uncounted: int


def verify_data(workdir: epath.PathLike) -> DataCheck:
    """Check the text of every finished run of a working directory's last sweep.

    Every file of every store that a run read is compared with its checksum, and the tokens of
    every batch of every trained span are read again and compared with what training was given.

    Raises:
        UserError: another version wrote the directory.
    """
    store, shared = WorkStore(workdir), Shared()
    runs = [
        restore_run(fact, shared) for fact in store.runs() if store.result(fact["id"]) is not None
    ]
    places, differences = _places(runs)
    paths = list(dict.fromkeys(path for found in places.values() for path in found))
    for path in step_by_step(paths, "checking stores"):
        differences += [f"store {path}: {line}" for line in check_store(path)]
    spans = _different_spans(runs, store)
    compared = 0
    for run, segment in step_by_step(spans, "checking spans"):
        opened = _opened(run, places)
        if opened is not None:
            compared += 1
            lines = _check_segment(run, segment, opened)
            differences += [f"{run.name} ({run.id}): {line}" for line in lines]
    return DataCheck(differences, paths, compared, _uncounted([each for _, each in spans]))


def _places(runs: Sequence[Run]) -> tuple[dict[tuple[Path, str], list[Path]], list[str]]:
    """Where the store of every fingerprint lies, by its folder; and what is not there, in words."""
    places: dict[tuple[Path, str], list[Path]] = {}
    missing = {}
    for run in runs:
        folder = run.config.data.stores
        known = {key for place, key in places if place == folder}
        if not {view.fingerprint for view in run.views.values()} - known:
            continue
        found = stores_of(folder)
        for name, view in run.views.items():
            key = (folder, view.fingerprint)
            places[key] = found[view.fingerprint] if view.fingerprint in found else []
            if not places[key]:
                missing[key] = (
                    f"the store of '{name}' that was trained on ({view.fingerprint[:16]}…) is not "
                    f"in {folder} (relative paths begin where the command runs)"
                )
    return places, list(missing.values())


def _different_spans(runs: Sequence[Run], store: WorkStore) -> list[tuple[Run, Segment]]:
    """Every trained span once, with one of the runs whose way leads through it."""
    found: dict[str, tuple[Run, Segment]] = {}
    for run in runs:
        for segment in store.history(run.node(run.steps)) or ():
            found.setdefault(segment.stop.digest, (run, segment))
    return list(found.values())


def _opened(
    run: Run, places: Mapping[tuple[Path, str], Sequence[Path]]
) -> dict[str, TokenStore] | None:
    """The stores of a run; None where one is missing or cannot be opened, which is said already."""
    stores = {}
    for name, view in run.views.items():
        paths = places[run.config.data.stores, view.fingerprint]
        if not paths:
            return None
        try:
            stores[name] = TokenStore.open(paths[0])
        except UserError:
            return None
    return stores


def _check_segment(run: Run, segment: Segment, stores: Mapping[str, TokenStore]) -> list[str]:
    try:
        return check_tokens(counted_spans([segment]), run.schedule, run.views, stores)
    except (UserError, ValueError, IndexError) as error:
        return [f"its text cannot be read again: {error}"]


def _uncounted(segments: Sequence[Segment]) -> int:
    return sum(
        any(span.tokens is None for span in counted_spans([segment])) for segment in segments
    )
