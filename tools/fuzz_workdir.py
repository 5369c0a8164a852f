"""The files of a trained sweep and of its stores, and what reads them.

As a program, `python tools/fuzz_workdir.py FOLDER` trains that sweep: two runs of 12 steps.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from replay_jax.data.sources.fingerprints import (
    known_part,
    known_source,
    recalled_part,
    remember_source,
)
from replay_jax.data.sources.parts import source_parts
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.data.tokens.tokenizer import open_tokenizer
from replay_jax.library.gathering import gather
from replay_jax.sweep.drive.published import Published
from replay_jax.sweep.drive.status import sweep_status
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.known import done
from replay_jax.sweep.store.orphans import orphans
from replay_jax.sweep.store.workdir import WorkStore

_Read = tuple[str, Sequence[bytes], Callable[[int, bytes], Any]]


def readers(study: Path, place: Path) -> list[_Read]:
    """Readers of the working directory and of the stores: name, valid inputs, and how to read."""
    shutil.copytree(study, place, dirs_exist_ok=True)
    workdir = place / "workdir"
    facts = sorted(path for path in workdir.rglob("*.json"))
    metas = sorted(workdir.glob("states/*/meta/metadata"))
    ends = [workdir / "results.jsonl"]
    return [
        _damaging("status", facts, lambda: sweep_status(epath.Path(workdir))),
        _damaging("plan", [*facts, *metas], lambda: _plan(workdir)),
        _damaging("verify", [*facts, *ends], lambda: verify(workdir)),
        _damaging("report", [*facts, *ends], lambda: gather([epath.Path(workdir)])),
        *_stores(place / "stores"),
    ]


def _plan(workdir: Path) -> None:
    """What `plan` and the start of `run` read."""
    store = WorkStore(workdir)
    store.common()
    store.environments()
    store.failures()
    store.progress()
    store.about()
    done(store)
    ids = [fact["id"] for fact in store.runs()]
    orphans(store)
    Published(store, ids)
    for name in store.state_names():
        store.is_checkpoint(name)


def _stores(stores: Path) -> list[_Read]:
    names = ("manifest.json", "tokenizer.json")
    finished = [path.parent for path in sorted(stores.glob("*-*/manifest.json"))]
    shards = sorted((stores / "shards").glob("*/manifest.json"))
    sources = [
        SourceConfig("jsonl", str(stores.parent / f"{name}.jsonl"), validation_fraction=0.2)
        for name in ("generic", "target")
    ]
    for source in sources:  # these copies have dates of their own
        known = [known_part(source, part, stores) for part in source_parts(source)]
        remember_source(source, stores, known)
    jsons = [folder / name for folder in finished for name in names]
    inputs = sorted((stores / "inputs").glob("*.json"))

    def read() -> None:
        for folder in finished:
            store = TokenStore.open(folder)
            open_tokenizer(folder / "tokenizer.json")
            for split in ("train", "validation"):
                store.documents(split)
                store.tokens(split)
                store.bytes_per_token(split)

    def check() -> None:
        for folder in finished:
            check_store(folder)

    def remembered() -> None:
        for source in sources:
            known_source(source, stores)
            for part in source_parts(source):
                recalled_part(source, part, stores)

    return [
        _damaging("manifests", [path for path in jsons if path.name == names[0]], read),
        _damaging("shard manifests", [*shards, *jsons], check),
        _damaging("tokenizers", [path for path in jsons if path.name == names[1]], read),
        _damaging("inputs", inputs, remembered),
    ]


def _damaging(name: str, paths: Sequence[Path], read: Callable[[], Any]) -> _Read:
    """A reader of a folder of which one file is damaged, and is whole again afterwards."""
    valid = [path.read_bytes() for path in paths]

    def damaged(which: int, data: bytes) -> None:
        paths[which].write_bytes(data)
        try:
            read()
        finally:
            paths[which].write_bytes(valid[which])

    return name, valid, damaged


def train(folder: Path) -> None:
    """Train the sweep into folder/workdir, with its stores in folder/stores."""
    from tiny_sweep import RHO, make_study

    study = make_study(folder)
    sweep = [{RHO: 0.0}, {RHO: 0.5}]
    study.train(sweep, folder / "workdir", execution__keep_states=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
    train(Path(sys.argv[1]))
