"""From sources to token stores: train the tokenizer if need be, tokenize, and be done once."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from replay_jax.data.sources.documents import split_documents
from replay_jax.data.sources.durable import write_durably
from replay_jax.data.sources.fingerprints import Inputs, source_inputs, source_key
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.bpe_training import sample_texts, train_bpe
from replay_jax.data.tokens.encode import CHECKPOINT_BYTES, tokenize
from replay_jax.data.tokens.folder import disk_errors, exclusively
from replay_jax.data.tokens.manifest import MANIFEST_NAME, SPLITS, STORE_FORMAT
from replay_jax.data.tokens.store import TokenStore
from replay_jax.data.tokens.tokenizer import (
    Tokenizer,
    TokenizerConfig,
    load_tokenizer,
    open_tokenizer,
)
from replay_jax.data.tokens.writer import StoreProgress, StoreWriter
from replay_jax.errors import UserError

_OVERLAP_BLOCK = 1 << 20  # documents


@dataclass(frozen=True)
class DataConfig:
    """All sources of an experiment, the tokenizer they share, and where stores are kept.

    sources: (name, source) pairs. generic, target: which names play these roles.
    repeat_generic: whether sources other than the target may be drawn again, in a new order,
        once all their rows have been seen; otherwise running out of them is an error.
    """

    sources: tuple[tuple[str, SourceConfig], ...]
    tokenizer: TokenizerConfig
    store_dir: str
    generic: str
    target: str
    repeat_generic: bool = False

    def __post_init__(self) -> None:
        names = [name for name, _ in self.sources]
        if len(set(names)) != len(names):
            raise UserError(f"source names must differ, got {names}")
        for role, name in (("generic", self.generic), ("target", self.target)):
            if name not in names:
                raise UserError(f"{role} source {name!r} is not among the sources {names}")
        for name in self.tokenizer.train_sources:
            if name not in names:
                raise UserError(f"tokenizer.train_sources names {name!r}, not among {names}")
        if self.generic == self.target:
            raise UserError(f"generic and target are both {self.generic!r}; they must differ")
        if ":/" in self.store_dir:
            raise UserError(
                f"data.store_dir {self.store_dir!r} is not on a disk: stores are memory-mapped, so "
                "name a folder, on every host or shared by all"
            )


@dataclass(frozen=True)
class PrepareProgress:
    """What preparation is doing. text_bytes counts the text handled, input_bytes the files."""

    source: str
    stage: str  # "training tokenizer" | "tokenizing"
    documents: int
    text_bytes: int
    tokens: int
    input_bytes: int


ProgressCallback = Callable[[PrepareProgress], None]


def prepare(
    data: DataConfig,
    progress: ProgressCallback | None = None,
    *,
    checkpoint_bytes: int = CHECKPOINT_BYTES,
) -> dict[str, TokenStore]:
    """Stores of all sources by name, made where they do not exist yet.

    A store is known by the content of its input, its configuration and its tokenizer, so a
    repeated call opens what is there, a change makes a new store beside the old one, and a
    call after an interruption goes on from the last checkpoint, made after every
    `checkpoint_bytes` of text. Safe to call from several processes at once.

    Raises UserError for bad input, a full disk or an unwritable folder.
    """
    store_dir = Path(data.store_dir)
    report = progress or (lambda _: None)
    with disk_errors(store_dir):
        store_dir.mkdir(parents=True, exist_ok=True)
        inputs = {name: source_inputs(source, store_dir) for name, source in data.sources}
        tokenizer = _tokenizer(data, inputs, report)
        stores = {}
        for name, source in data.sources:
            identity = store_identity(source, inputs[name], tokenizer)
            directory = _store_path(store_dir, name, identity)
            with exclusively(directory):
                if not (directory / MANIFEST_NAME).exists():
                    _build(
                        directory,
                        name=name,
                        source=source,
                        inputs=inputs[name],
                        tokenizer=tokenizer,
                        report=report,
                        checkpoint_bytes=checkpoint_bytes,
                    )
            stores[name] = TokenStore.open(directory, tokenizer=tokenizer.fingerprint)
    check_overlap(stores)
    return stores


def find_stores(data: DataConfig) -> dict[str, TokenStore | None]:
    """The stores `prepare` would return, None where one is still to be made; writes no store."""
    store_dir = Path(data.store_dir)
    with disk_errors(store_dir):
        inputs = {name: source_inputs(source, store_dir) for name, source in data.sources}
    found: dict[str, TokenStore | None] = {name: None for name, _ in data.sources}
    tokenizer = _found_tokenizer(data, inputs)
    if tokenizer is None:
        return found
    for name, source in data.sources:
        path = _store_path(store_dir, name, store_identity(source, inputs[name], tokenizer))
        if (path / MANIFEST_NAME).exists():
            found[name] = TokenStore.open(path, tokenizer=tokenizer.fingerprint)
    return found


def find_tokenizer(data: DataConfig) -> Tokenizer:
    """The tokenizer that `prepare` used.

    Raises UserError where it was trained and is not on this machine.
    """
    if data.tokenizer.kind != "bpe":
        return load_tokenizer(data.tokenizer)
    inputs = {name: source_inputs(source, Path(data.store_dir)) for name, source in data.sources}
    tokenizer = _found_tokenizer(data, inputs)
    if tokenizer is None:
        raise UserError(f"the trained tokenizer is not in {data.store_dir}: run replay-jax prepare")
    return tokenizer


def store_identity(source: SourceConfig, inputs: Inputs, tokenizer: Tokenizer) -> str:
    """Hash of all that decides a store's content: input, configuration, tokenizer, format."""
    return _digest(
        {
            "format": STORE_FORMAT,
            "source": source_key(source),
            "inputs": inputs.digest,
            "tokenizer": tokenizer.fingerprint,
        }
    )


def check_overlap(stores: dict[str, TokenStore]) -> None:
    """Raise UserError where a held-out document of one source is in another's training split.

    Within a source this cannot happen; between sources it cannot where both hold out the
    same fraction. Exact copies only.
    """
    for held_name, held in stores.items():
        held_out = np.sort(held.hashes("validation"))
        for name, store in stores.items():
            if name == held_name or not len(held_out):
                continue
            hashes, shared = store.hashes("train"), 0
            for start in range(0, len(hashes), _OVERLAP_BLOCK):
                block = hashes[start : start + _OVERLAP_BLOCK]
                place = np.minimum(np.searchsorted(held_out, block), len(held_out) - 1)
                shared += int(np.count_nonzero(held_out[place] == block))
            if shared:
                raise UserError(
                    f"{shared} held-out documents of {held_name!r} are training documents of "
                    f"{name!r}; give both the same validation_fraction, or remove them"
                )


def _tokenizer(data: DataConfig, inputs: dict[str, Inputs], report: ProgressCallback) -> Tokenizer:
    """The configured tokenizer; a BPE is trained once and kept in the store folder."""
    config = data.tokenizer
    if config.kind != "bpe":
        return load_tokenizer(config)
    path = _trained_path(data, inputs)
    with exclusively(path):
        if not path.exists():
            texts: list[str] = []
            for name, source in data.sources:
                if name in (config.train_sources or dict(data.sources)):
                    report(PrepareProgress(name, "training tokenizer", 0, 0, 0, inputs[name].bytes))
                    training = (d.text for d in split_documents(source) if not d.held_out)
                    texts += sample_texts(training, config.train_bytes)
            write_durably(path, train_bpe(texts, config.vocab_size).to_json())
    return open_tokenizer(path)


def _found_tokenizer(data: DataConfig, inputs: dict[str, Inputs]) -> Tokenizer | None:
    """The configured tokenizer, or None for a BPE that is still to be trained."""
    if data.tokenizer.kind != "bpe":
        return load_tokenizer(data.tokenizer)
    path = _trained_path(data, inputs)
    return open_tokenizer(path) if path.exists() else None


def _build(
    directory: Path,
    *,
    name: str,
    source: SourceConfig,
    inputs: Inputs,
    tokenizer: Tokenizer,
    report: ProgressCallback,
    checkpoint_bytes: int,
) -> None:
    """Make one store; raises UserError where a split would be empty or the input changed."""
    with contextlib.closing(StoreWriter(directory, tokenizer)) as writer:
        tokenize(
            split_documents(source),
            tokenizer=tokenizer,
            writer=writer,
            report=lambda done: report(
                PrepareProgress(
                    name,
                    "tokenizing",
                    done.documents_read,
                    done.text_bytes,
                    done.tokens,
                    inputs.bytes,
                )
            ),
            checkpoint_bytes=checkpoint_bytes,
        )
        _check_splits(name, source, writer.progress)
        if source_inputs(source, directory.parent).digest != inputs.digest:
            raise UserError(f"the input of {name!r} changed while it was read; run again")
        writer.finish(
            source=name,
            kind=source.kind,
            identity=store_identity(source, inputs, tokenizer),
            inputs=inputs.digest,
        )


def _check_splits(name: str, source: SourceConfig, progress: StoreProgress) -> None:
    documents = {split: progress.splits[split].documents for split in SPLITS}
    if not any(documents.values()):
        raise UserError(
            f"source {name!r} has no text: all {progress.documents_read} documents are empty"
        )
    for split, other in (SPLITS, SPLITS[::-1]):
        if not documents[split]:
            raise UserError(
                f"none of the {documents[other]} documents of source {name!r} went to its {split} "
                f"split (validation_fraction {source.validation_fraction}); give more documents, "
                "change the fraction, or hold some out with validation_path"
            )


def _trained_path(data: DataConfig, inputs: dict[str, Inputs]) -> Path:
    """Where the trained tokenizer of this configuration is kept."""
    config = data.tokenizer
    key: dict[str, object] = {"vocab_size": config.vocab_size, "train_bytes": config.train_bytes}
    for name, source in data.sources:
        if name in (config.train_sources or dict(data.sources)):
            key[name] = [source_key(source), inputs[name].digest]
    return Path(data.store_dir) / f"tokenizer-{_digest(key)[:16]}.json"


def _store_path(store_dir: Path, name: str, identity: str) -> Path:
    return store_dir / f"{name}-{identity[:16]}"


def _digest(key: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
