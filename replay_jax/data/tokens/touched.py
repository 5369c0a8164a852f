"""Whether a store is still what its manifests say, without reading what nobody wrote to since.

A manifest is written last. So a file that is newer was written to afterwards, or copied: it is
compared with its checksum, and the manifest's date then says that it was. What a disk changes by
itself has no date; `verify --data` reads everything.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from replay_jax.data.sources.durable import read_only_allowed
from replay_jax.data.tokens.manifest import (
    MANIFEST_NAME,
    FileRecord,
    content_difference,
    read_manifest,
    read_shard_manifest,
)
from replay_jax.errors import UserError


def has_all_shards(directory: Path) -> bool:
    """Whether the shards of a finished store are there; raises UserError for a damaged manifest."""
    folders = [_folder(directory, shard.folder) for shard in read_manifest(directory).shards]
    return all((folder / MANIFEST_NAME).exists() for folder in folders)


def check_touched(directory: Path) -> None:
    """Compare what was written to after it was finished with its checksums.

    Raises UserError for a file that is not as its manifest says; names it and what to delete.
    """
    manifest = read_manifest(directory)
    _check(directory, manifest.files)
    for shard in manifest.shards:
        folder = _folder(directory, shard.folder)
        path = folder / MANIFEST_NAME
        _refuse(folder, content_difference(path, FileRecord(_size(path), shard.manifest)))
        _check(folder, read_shard_manifest(folder).files)


def _check(folder: Path, files: Mapping[str, FileRecord]) -> None:
    finished = os.stat(folder / MANIFEST_NAME).st_mtime_ns
    newer = [name for name in files if _date(folder / name) > finished]
    for name in newer:
        _refuse(folder, content_difference(folder / name, files[name]))
    if newer:
        with read_only_allowed():
            os.utime(folder / MANIFEST_NAME)


def _refuse(folder: Path, wrong: str | None) -> None:
    if wrong is not None:
        raise UserError(f"{wrong}; delete {folder} and prepare it again")


def _folder(directory: Path, shard: str) -> Path:
    return Path(os.path.normpath(directory / shard))


def _date(path: Path) -> int:
    """When a file was last written to; one that is gone is newer than any."""
    return os.stat(path).st_mtime_ns if path.exists() else 1 << 63


def _size(path: Path) -> int:
    return os.stat(path).st_size if path.exists() else 0
