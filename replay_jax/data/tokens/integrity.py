"""Whether the files of a store are as its manifests say: by size, by date, and by content."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from replay_jax.data.sources import in_place
from replay_jax.data.sources.durable import file_sha256, read_only_allowed
from replay_jax.data.tokens.manifest import (
    COLUMNS,
    LOSS,
    MANIFEST_NAME,
    WIDTHS,
    FileRecord,
    Manifest,
    ShardRecord,
    read_manifest,
    read_shard_manifest,
)
from replay_jax.errors import UserError


def _size_difference(path: Path, size: int) -> str | None:
    """What is wrong with the size of a file, None if nothing is."""
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, ValueError) as error:  # what a damaged manifest gives may be no name at all
        return f"{path} cannot be read: {error}"
    if found != size:
        return f"{path} has {found} bytes where its manifest says {size}"
    return None


def content_difference(path: Path, record: FileRecord) -> str | None:
    """What is wrong with a file, None if nothing is; reads all of it."""
    wrong = _size_difference(path, record.bytes)
    if wrong is None and (found := file_sha256(path)) != record.sha256:
        return (
            f"{path} was altered: its SHA-256 is {found[:12]}… where its manifest says "
            f"{record.sha256[:12]}…"
        )
    return wrong


def size_differences(directory: Path, manifest: Manifest) -> Iterator[tuple[Path, str]]:
    """Every file of a store whose size is not the one its manifest gives: its folder, and how."""
    widths = dict.fromkeys(COLUMNS, 8) | {"tokens": WIDTHS[manifest.dtype]}
    if manifest.supervised is not None:
        widths[LOSS] = 1
    for name, record in manifest.files.items():
        if wrong := _size_difference(directory / name, record.bytes):
            yield directory, wrong
    for shard in manifest.shards:
        folder = _folder(directory, shard)
        for wrong in _shard_differences(folder, shard, widths):
            yield folder, wrong


def _shard_differences(
    folder: Path, shard: ShardRecord, widths: Mapping[str, int]
) -> Iterator[str]:
    elsewhere = in_place.is_elsewhere(folder)
    files = {
        f"{split}.{column}": width * (counts.documents if column in COLUMNS else counts.tokens)
        for split, counts in shard.splits.items()
        for column, width in widths.items()
        if counts.documents and not (elsewhere and column == "tokens")
    }
    if elsewhere:
        yield from in_place.size_differences(folder)
        files |= {name: file.bytes for name, file in read_shard_manifest(folder).files.items()}
    yield from filter(None, (_size_difference(folder / name, size) for name, size in files.items()))


def has_all_shards(directory: Path) -> bool:
    """Whether the shards of a finished store are there; raises UserError for a damaged manifest."""
    folders = [_folder(directory, shard) for shard in read_manifest(directory).shards]
    return all((folder / MANIFEST_NAME).exists() for folder in folders)


def check_touched(*directories: Path) -> None:
    """Compare what was written to after stores were finished with its checksums.

    A manifest is written last, so a file that is newer was written to afterwards, or copied. When
    it was found to be right, the manifest gets a new date. What a disk changes by itself has no
    date: `verify --data` reads everything.

    Raises UserError for a file that is not as its manifest says; names it and what to delete.
    """
    for directory in directories:
        manifest = read_manifest(directory)
        _check_newer(directory, manifest.files)
        for shard in manifest.shards:
            folder = _folder(directory, shard)
            path = folder / MANIFEST_NAME
            size = path.stat().st_size if path.exists() else 0
            _refuse(folder, content_difference(path, FileRecord(size, shard.manifest)))
            _check_newer(folder, read_shard_manifest(folder).files)


def _check_newer(folder: Path, files: Mapping[str, FileRecord]) -> None:
    finished = (folder / MANIFEST_NAME).stat().st_mtime_ns
    paths = {folder / name: record for name, record in files.items()}
    newer = [p for p in paths if not p.exists() or p.stat().st_mtime_ns > finished]
    for path in newer:
        _refuse(folder, content_difference(path, paths[path]))
    if newer:
        with read_only_allowed():
            os.utime(folder / MANIFEST_NAME)


def _refuse(folder: Path, wrong: str | None) -> None:
    if wrong is not None:
        raise UserError(f"{wrong}; delete {folder} and prepare it again")


def _folder(directory: Path, shard: ShardRecord) -> Path:
    return Path(os.path.normpath(directory / shard.folder))
