"""What a source's input is, by content: the hash of its files, remembered between calls.

Hashing a large corpus each time would be slow, and trusting sizes and dates would be wrong
(a copy has a new date, an edit may keep the size). So content is the identity, and size and
date of each file only decide whether its remembered hash still holds, as git does it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from replay_jax.data.embedded import EMBEDDED_KINDS, EXTRACTION_VERSION
from replay_jax.data.manifest import file_sha256, write_durably
from replay_jax.data.sources import SourceConfig, input_files, validation_source

_CACHE_NAME = "inputs.json"


@dataclass(frozen=True)
class Inputs:
    """The files behind a source. digest: hash of their contents in reading order."""

    digest: str
    files: int
    bytes: int


def source_inputs(config: SourceConfig, store_dir: Path) -> Inputs:
    """Identity of a source's input; hashes of files are kept in `store_dir`/inputs.json.

    Raises UserError where a file is missing, empty or unreadable.
    """
    paths = list(input_files(config))
    if config.validation_path:
        paths += [*input_files(validation_source(config))]
    cache_path = store_dir / _CACHE_NAME
    known = _read_cache(cache_path)
    digest, total, changed = hashlib.sha256(), 0, False
    for path in paths:
        status = path.stat()
        name, stamp = str(path.resolve()), [status.st_size, status.st_mtime_ns]
        if known.get(name, [None])[:2] != stamp:
            known[name] = [*stamp, file_sha256(path)]
            changed = True
        digest.update(bytes.fromhex(known[name][2]))
        total += status.st_size
    if changed:
        store_dir.mkdir(parents=True, exist_ok=True)
        write_durably(cache_path, json.dumps(known))
    return Inputs(digest.hexdigest(), len(paths), total)


def source_key(config: SourceConfig) -> dict[str, object]:
    """All of a source's configuration that changes its documents; paths are known by content."""
    key = asdict(config)
    del key["path"]
    key["validation_path"] = bool(config.validation_path)
    if config.kind in EMBEDDED_KINDS:
        key["extraction"] = EXTRACTION_VERSION
    return key


def _read_cache(path: Path) -> dict[str, list]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
