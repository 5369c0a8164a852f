"""What a source's input is, by content: the hash of its files, remembered between calls.

Hashing a large corpus each time would be slow, and trusting sizes and dates would be wrong
(a copy has a new date, an edit may keep the size). So content is the identity, and size and
date of each file only decide whether its remembered hash still holds, as git does it.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from replay_jax.data.sources.durable import file_sha256, write_durably
from replay_jax.data.sources.embedded import EMBEDDED_KINDS, EXTRACTION_VERSION
from replay_jax.data.sources.source import SourceConfig, input_files, validation_source
from replay_jax.errors import UserError

_CACHE_NAME = "inputs.json"


@dataclass(frozen=True)
class Inputs:
    """The files behind a source. digest: hash of their contents in reading order."""

    digest: str
    files: int
    bytes: int


def source_inputs(config: SourceConfig, store_dir: Path) -> Inputs:
    """Identity of a source's input; hashes of files are kept in `store_dir`/inputs.json.

    Where the files are gone but were seen before, they are taken to be what they were: a
    machine that was given the finished stores needs no copy of the text. Raises UserError
    where a file is missing, empty or unreadable.
    """
    cache_path = store_dir / _CACHE_NAME
    cache = _read_cache(cache_path)
    question = json.dumps(asdict(config), sort_keys=True)
    try:
        paths = input_files(config)
        if config.validation_path:
            paths += input_files(validation_source(config))
    except UserError:
        if question not in cache.answers:
            raise
        return Inputs(**cache.answers[question])
    before = cache.copy()
    inputs = _hash_files(paths, cache)
    cache.answers[question] = asdict(inputs)
    _write_cache(cache_path, cache, before)
    return inputs


def file_inputs(paths: Sequence[Path], store_dir: Path) -> Inputs:
    """Identity of files in the order given, remembered as those of sources are."""
    cache_path = store_dir / _CACHE_NAME
    cache = _read_cache(cache_path)
    before = cache.copy()
    inputs = _hash_files(paths, cache)
    _write_cache(cache_path, cache, before)
    return inputs


def source_key(config: SourceConfig) -> dict[str, object]:
    """All of a source's configuration that changes its documents; paths are known by content."""
    key = asdict(config)
    del key["path"]
    key["validation_path"] = bool(config.validation_path)
    if config.kind in EMBEDDED_KINDS:
        key["extraction"] = EXTRACTION_VERSION
    return key


@dataclass
class _Cache:
    """files: path to [size, date, SHA-256]. answers: configuration to what was found last."""

    files: dict[str, list]
    answers: dict[str, dict]

    def copy(self) -> "_Cache":
        return _Cache(dict(self.files), dict(self.answers))


def _hash_files(paths: Sequence[Path], cache: _Cache) -> Inputs:
    """Identity of files; only those are read whose size or date is not the remembered one."""
    digest, total = hashlib.sha256(), 0
    for path in paths:
        status = path.stat()
        name, stamp = os.path.abspath(path), [status.st_size, status.st_mtime_ns]
        if name not in cache.files or cache.files[name][:2] != stamp:
            cache.files[name] = [*stamp, file_sha256(path)]
        digest.update(bytes.fromhex(cache.files[name][2]))
        total += status.st_size
    return Inputs(digest.hexdigest(), len(paths), total)


def _write_cache(path: Path, cache: _Cache, before: _Cache) -> None:
    if cache != before:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(asdict(cache)))


def _read_cache(path: Path) -> _Cache:
    try:
        return _Cache(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return _Cache({}, {})
