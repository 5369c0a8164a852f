"""The tokenizer of a configuration: loaded or trained once, and kept with the stores.

What is kept serves where the file or the hub is out of reach, and processes open it.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from replay_jax.data.conversations.chat_files import read_chat
from replay_jax.data.sources.documents import held_out_below
from replay_jax.data.sources.durable import read_only_allowed, write_durably
from replay_jax.data.sources.embedded import EMBEDDED_KINDS
from replay_jax.data.sources.fingerprints import KnownPart, part_key
from replay_jax.data.sources.parts import TRAIN, VALIDATION
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.workers import Progress, ProgressCallback, processes_for, run_jobs
from replay_jax.data.tokens.bpe_training import WHOLE, Sample, merged, train_bpe
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.listing import Listed, all_known
from replay_jax.data.tokens.shards import PartJob, SampleJob, held_out_hashes, sample_part
from replay_jax.data.tokens.tokenizer import (
    Tokenizer,
    load_tokenizer,
    open_tokenizer,
    special_texts,
)
from replay_jax.errors import UserError

# The configured tokenizer and the file that holds it; None for one still to be trained.
Kept = tuple[Tokenizer, Path] | None


def find_kept(data: DataConfig, listed: Listed, *, download: bool) -> Kept:
    """The configured tokenizer and its file; None for one still to be trained.

    `download` says whether one of the hub may be fetched.

    Raises UserError where it cannot be had.
    """
    if data.tokenizer.kind == "bpe":
        path = _trained_path(data, listed)
        return None if path is None or not path.exists() else (open_tokenizer(path), path)
    path = _kept_path(data)
    try:
        tokenizer = _loaded(data, download=download)
    except UserError:
        # Nobody changed it: it is out of reach.
        if not path.exists() or _is_there(data):
            raise
        return open_tokenizer(path), path
    return tokenizer, path


def _loaded(data: DataConfig, *, download: bool) -> Tokenizer:
    """The configured tokenizer, with its chat template where a source needs one."""
    config = data.tokenizer
    tokenizer = load_tokenizer(config, download=download)
    if not data.has_conversations:
        return tokenizer
    special = special_texts(tokenizer.model)
    given = config.chat_template
    chat = read_chat(config.path, given=given, special=special, download=download)
    return replace(tokenizer, chat=chat)


def keep(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer where processes find it, unless it is there."""
    text = tokenizer.to_json()
    if not path.exists() or path.read_bytes() != text.encode():
        with read_only_allowed():
            write_durably(path, text)


def train(
    data: DataConfig, listed: Listed, callback: ProgressCallback, processes: int | None
) -> tuple[Tokenizer, Path]:
    """Train the configured BPE on text that no source holds out; `listed` gets to know its parts.

    Raises UserError for bad input and where the text is too small.
    """
    texts: list[str] = []
    for name, source in data.tokenizer_sources():
        texts += _sample(data, name, source, listed, callback, processes).texts()
    tokenizer = train_bpe(texts, data.tokenizer.vocab_size)
    path = _trained_path(data, listed)
    assert path is not None
    keep(tokenizer, path)
    return tokenizer, path


def _sample(
    data: DataConfig,
    name: str,
    source: SourceConfig,
    listed: Listed,
    callback: ProgressCallback,
    processes: int | None,
) -> Sample:
    parts = [part.part if isinstance(part, KnownPart) else part for part in listed[name]]
    places = {part: number for number, part in enumerate(parts)}
    jobs = [
        PartJob(name, source, part, known if isinstance(known, KnownPart) else None, data.stores)
        for part, known in zip(parts, listed[name], strict=True)
    ]
    held_out = [held_out_hashes(job) for job in jobs if job.part.role == VALIDATION]
    below = held_out_below(max(own.validation_fraction for _, own in data.sources))
    limit = data.tokenizer.train_bytes
    sample = WHOLE
    progress = Progress("training tokenizer", jobs, callback)

    def wanted() -> Iterator[SampleJob]:
        hashes = np.unique(np.concatenate([*held_out, np.empty(0, np.uint64)]))
        for job in jobs:
            own = hashes if job.part.role == TRAIN else hashes[:0]
            # What is known by then need not come from the processes.
            yield SampleJob(**vars(job), limit=limit, bound=sample.bound, held_out=own,
                            held_out_below=below)  # fmt: skip

    sizes = [part.bytes for part in parts]
    count = processes or (1 if source.kind in EMBEDDED_KINDS else processes_for(sizes))
    for job, (known, found) in run_jobs(sample_part, wanted(), processes=count, report=progress):
        listed[name][places[job.part]] = known
        sample = merged(sample, found, limit)
        progress.ended(job)
    return sample


def _trained_path(data: DataConfig, listed: Listed) -> Path | None:
    """Where the trained tokenizer of this configuration is kept; None where that is unknown."""
    config = data.tokenizer
    key: dict[str, object] = {
        "vocab_size": config.vocab_size,
        "train_bytes": config.train_bytes,
        "held_out": max(source.validation_fraction for _, source in data.sources),
    }
    for name, source in data.tokenizer_sources():
        known = all_known(listed[name])
        if known is None:
            return None
        key[name] = [part_key(source, part) for part in known]
    return data.stores / f"tokenizer-{_digest(key)}.json"


def _kept_path(data: DataConfig) -> Path:
    config = data.tokenizer
    place = os.path.abspath(os.path.expanduser(config.path))
    if _is_there(data) or config.path.endswith(".json"):
        place = os.path.relpath(place, os.path.realpath(data.stores))
    else:
        place = config.path
    key = {"kind": config.kind, "path": place, "eos": config.eos_token, "bos": config.bos_token}
    if data.has_conversations:
        key["chat"] = config.chat_template
    return data.stores / f"tokenizer-{_digest(key)}.json"


def _is_there(data: DataConfig) -> bool:
    return os.path.exists(os.path.expanduser(data.tokenizer.path))


def _digest(key: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
