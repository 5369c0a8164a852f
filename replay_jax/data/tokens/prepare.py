"""From sources to token stores: find what is there, make what is missing, and be done once."""

import hashlib
import json
import random
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from replay_jax.data.sources.buckets import bring_answers, send_answers, send_missing
from replay_jax.data.sources.durable import disk_errors, in_use, remove_abandoned
from replay_jax.data.sources.embedded import EMBEDDED_KINDS
from replay_jax.data.sources.fingerprints import KnownPart, known_source, remember_source
from replay_jax.data.sources.parts import PART_BYTES, VALIDATION
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.workers import Progress, ProgressCallback, processes_for, run_jobs
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.copies import check_held_out, drop_copies, find_copies, shard_hashes
from replay_jax.data.tokens.integrity import check_touched, has_all_shards
from replay_jax.data.tokens.kept import Kept, find_kept, keep, train
from replay_jax.data.tokens.listing import (
    Listed,
    all_known,
    identify,
    list_parts,
    places_of,
    remembered_parts,
)
from replay_jax.data.tokens.manifest import (
    MANIFEST_NAME,
    NO_COUNTS,
    SPLITS,
    STORE_FORMAT,
    read_shard_manifest,
)
from replay_jax.data.tokens.shards import (
    FOLDER,
    ShardJob,
    make_shard,
    point_at_files,
    shard_key,
    shard_paths,
)
from replay_jax.data.tokens.store import TokenStore
from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.data.tokens.writer import StoreFacts, write_store
from replay_jax.errors import UserError


def prepare(
    data: DataConfig,
    callback: ProgressCallback | None = None,
    *,
    processes: int | None = None,
    part_bytes: int = PART_BYTES,
) -> dict[str, TokenStore]:
    """Stores of all sources by name, made where they do not exist yet.

    A store is known by the content of its input, its configuration and its tokenizer, and made
    of shards, one for each part of its input. So a repeated call opens what is there, a change
    makes the shards of what changed, and a call after an interruption makes those that are
    missing. Safe to call from several processes and hosts at once, which share the work; those
    that share a bucket and no disk look there before each shard, and send what they make.

    Args:
        data: what to prepare.
        callback: told how far it is.
        processes: that work at the same time; None for as many as cores have work.
        part_bytes: of input in a part; decides which shards a store is made of, nothing else.

    Raises:
        UserError: bad input, a full disk or an unwritable folder.
    """
    callback = callback or (lambda _: None)
    with disk_errors(data.stores):
        if data.bucket:
            bring_answers(data.bucket, data.stores, [source for _, source in data.sources])
        listed: Listed = {
            name: list_parts(source, data.stores, part_bytes) for name, source in data.sources
        }
        if data.bucket or (data.stores / FOLDER).exists():
            identify(data, listed, callback, processes)
        kept = find_kept(data, listed, download=True)
        if kept is None or not (found := _finished(data, listed, kept[0])):
            (data.stores / FOLDER).mkdir(parents=True, exist_ok=True)
            with in_use(data.stores, alone=False):
                found = _make(data, listed, kept, callback, processes)
        if kept is not None:
            for name, source in data.sources:
                point_at_files(data.stores, source, all_known(listed[name]) or [], kept[0])
        stores = {name: TokenStore.open(path) for name, path in found.items()}
        check_touched(*found.values())
        check_held_out(find_copies(stores))
    return stores


def find_stores(data: DataConfig) -> dict[str, TokenStore | None]:
    """The stores `prepare` would return, None where one is still to be made; writes nothing.

    Looks at sizes and dates of the inputs only: a store whose input was not seen as it is now
    counts as not made.
    """
    found: dict[str, TokenStore | None] = {name: None for name, _ in data.sources}
    with disk_errors(data.stores):
        listed = remembered_parts(data)
        kept = find_kept(data, listed, download=False)
        if kept is not None:
            for name, path in _store_paths(data, listed, kept[0]).items():
                if path is not None and (path / MANIFEST_NAME).exists():
                    found[name] = TokenStore.open(path)
    return found


def find_tokenizer(data: DataConfig) -> Tokenizer:
    """The tokenizer that `prepare` used.

    Raises UserError where it was trained and is not on this machine.
    """
    listed = remembered_parts(data) if data.tokenizer.kind == "bpe" else {}
    kept = find_kept(data, listed, download=True)
    if kept is None:
        raise UserError(f"the trained tokenizer is not in {data.store_dir}: run replay-jax prepare")
    return kept[0]


def _finished(data: DataConfig, listed: Listed, tokenizer: Tokenizer) -> dict[str, Path]:
    """All stores, if all are finished; else none."""
    found = _store_paths(data, listed, tokenizer)
    made = {name: path for name, path in found.items() if path and (path / MANIFEST_NAME).exists()}
    return made if len(made) == len(found) and all(map(has_all_shards, made.values())) else {}


def _make(
    data: DataConfig, listed: Listed, kept: Kept, callback: ProgressCallback, processes: int | None
) -> dict[str, Path]:
    """Make what is missing; returns the stores."""
    remove_abandoned(data.stores / FOLDER)
    kept = kept or find_kept(data, listed, download=True)  # another process may have trained it
    tokenizer, file = kept or train(data, listed, callback, processes)
    keep(tokenizer, file)
    _make_shards(data, listed, tokenizer, file, callback, processes)
    for name, source in data.sources:
        known = all_known(listed[name])
        assert known is not None
        shards = shard_paths(data.stores, source, known, tokenizer)
        _check_bad(source, shards)
        if data.bucket:  # what was made and not sent before an interruption
            send_missing(data.bucket, FOLDER, shards)
        if known_source(source, data.stores) != known:
            remember_source(source, data.stores, known)
    if data.bucket:
        send_answers(data.bucket, data.stores, [source for _, source in data.sources])
    found = {}
    for name, path in _store_paths(data, listed, tokenizer).items():
        assert path is not None
        if not (path / MANIFEST_NAME).exists():
            _assemble(data, name, path, listed, tokenizer)
        found[name] = path
    return found


def _make_shards(
    data: DataConfig,
    listed: Listed,
    tokenizer: Tokenizer,
    file: Path,
    callback: ProgressCallback,
    processes: int | None,
) -> None:
    """Make the shards that are missing; `listed` gets to know all parts."""
    places = places_of(listed)
    path = None if tokenizer.model is None and tokenizer.chat is None else file
    jobs = []
    for (name, part), number in places.items():
        source, found = dict(data.sources)[name], listed[name][number]
        known = found if isinstance(found, KnownPart) else None
        if known is not None:
            (shard,) = shard_paths(data.stores, source, [known], tokenizer)
            if (shard / MANIFEST_NAME).exists():
                continue
        jobs.append(ShardJob(name, source, part, known, data.stores, path, data.bucket, False))
    if data.bucket:  # each host begins elsewhere, and finds there what the others have made
        random.Random(socket.gethostname()).shuffle(jobs)
    progress = Progress("tokenizing", jobs, callback)
    here = [job for job in jobs if job.config.kind in EMBEDDED_KINDS]  # they share what is parsed
    spread = [job for job in jobs if job.config.kind not in EMBEDDED_KINDS]
    busy: list[ShardJob] = []
    for group, count in (
        (here, 1),
        (spread, processes or processes_for([job.part.bytes for job in spread])),
        (busy, 1),
    ):
        make = partial(make_shard, tokenizer=tokenizer) if count == 1 else make_shard
        for job, known in run_jobs(make, group, processes=count, report=progress):
            if known is None:  # another process is at it, and may fail
                busy.append(replace(job, wait=True))
                continue
            listed[job.source][places[job.source, job.part]] = known
            progress.ended(job)


def _assemble(
    data: DataConfig, name: str, path: Path, listed: Listed, tokenizer: Tokenizer
) -> None:
    """Make one store of finished shards; raises UserError where a split would be empty."""
    source, known = dict(data.sources)[name], all_known(listed[name])
    assert known is not None
    shards = shard_paths(data.stores, source, known, tokenizer)
    others = _elsewhere(data, name, listed, tokenizer)
    shards = drop_copies(shards, others, tokenizer, data.stores, repeated=data.drop_copies == "all")
    _check_splits(name, source, shards)
    inputs = hashlib.sha256("".join(part.digest for part in known).encode()).hexdigest()
    identity = _identity(data, name, listed, tokenizer)
    facts = StoreFacts(name, source.kind, identity, inputs, source.masked)
    write_store(path, facts, shards, tokenizer)


def _elsewhere(
    data: DataConfig, name: str, listed: Listed, tokenizer: Tokenizer
) -> list[np.ndarray]:
    """Hashes of documents that a source must not train on, or shall not."""
    sources = dict(data.sources)
    known = all_known(listed[name]) or []
    held_out = [part for part in known if part.part.role == VALIDATION]
    shards = shard_paths(data.stores, sources[name], held_out, tokenizer)
    hashes = [shard_hashes(shard, "validation") for shard in shards]
    if data.drop_copies != "none" and name != data.target:
        target = all_known(listed[data.target]) or []
        shards = shard_paths(data.stores, sources[data.target], target, tokenizer)
        hashes += [shard_hashes(shard, split) for shard in shards for split in SPLITS]
    return hashes


def _store_paths(data: DataConfig, listed: Listed, tokenizer: Tokenizer) -> dict[str, Path | None]:
    """Where the stores are or will be; None where the input is not known."""
    paths: dict[str, Path | None] = {}
    for name in listed:
        identity = _identity(data, name, listed, tokenizer)
        # A name may be any text; the store is known by its identity.
        safe = re.sub(r"[^\w.-]+", "_", name)[:48]
        paths[name] = data.stores / f"{safe}-{identity[:16]}" if identity else None
    return paths


def _identity(data: DataConfig, name: str, listed: Listed, tokenizer: Tokenizer) -> str:
    """Hash of all that decides a store: name, shards, tokenizer, policy; "" if not known."""
    needed = {name} if data.drop_copies == "none" else {name, data.target}
    keys = {}
    for own in sorted(needed):
        known = all_known(listed[own])
        if known is None:
            return ""
        source = dict(data.sources)[own]
        keys[own] = [shard_key(source, part, tokenizer) for part in known]
    policy = data.drop_copies
    if name == data.target and policy == "of_target":
        policy = "none"
    key = {
        "format": STORE_FORMAT,
        "name": name,
        "shards": keys,
        "drop_copies": policy,
        # Of the store and not of its shards: one that refuses goes on with those that are good.
        "bad_documents": dict(data.sources)[name].bad_documents,
    }
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def _check_bad(source: SourceConfig, shards: Sequence[Path]) -> None:
    """Raise UserError where shards passed over what the source refuses."""
    if source.bad_documents == "refuse":
        for shard in shards:
            manifest = read_shard_manifest(shard)
            if manifest.bad:
                raise UserError(manifest.first_bad)


def _check_splits(name: str, source: SourceConfig, shards: Sequence[Path]) -> None:
    found = [read_shard_manifest(shard) for shard in shards]
    documents = {
        split: sum((shard.splits[split] for shard in found), NO_COUNTS).documents
        for split in SPLITS
    }
    if not any(documents.values()):
        passed_over = sum(shard.empty + shard.bad + shard.copies for shard in found)
        raise UserError(f"source {name!r} has no text: all {passed_over} documents are empty")
    for split, other in (SPLITS, SPLITS[::-1]):
        if not documents[split]:
            raise UserError(
                f"none of the {documents[other]} documents of source {name!r} went to its {split} "
                f"split (validation_fraction {source.validation_fraction}); give more documents, "
                "change the fraction, or hold some out with validation_path"
            )
