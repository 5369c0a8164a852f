"""What shards and stores say about themselves: one JSON file each, written last, read first."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from replay_jax.data.sources import in_place
from replay_jax.data.sources.durable import file_sha256, read_only_allowed, write_durably
from replay_jax.errors import UserError
from replay_jax.strict import from_plain

# Raise it when the layout of a store changes; older stores are then prepared again.
STORE_FORMAT = 2
SPLITS = ("train", "validation")
# Files of a split and the type of their numbers; tokens have that of the vocabulary.
COLUMNS = {"documents": "<i8", "hashes": "<u8", "sizes": "<i8"}
MANIFEST_NAME = "manifest.json"
_CHECKSUM = "checksum"
WIDTHS = {"uint16": 2, "uint32": 4}  # bytes of a token, by dtype


@dataclass(frozen=True)
class SplitCounts:
    """Documents, tokens (those that begin and end each document included) and bytes of one split.

    text_bytes: UTF-8 bytes of the documents. token_bytes: bytes the tokens stand for; equal
    to text_bytes for byte-level tokenizers, else close to it.
    """

    documents: int
    tokens: int
    text_bytes: int
    token_bytes: int

    def __add__(self, other: "SplitCounts") -> "SplitCounts":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return SplitCounts(*(a + b for a, b in pairs))


NO_COUNTS = SplitCounts(0, 0, 0, 0)


def _check_splits(splits: dict[str, SplitCounts]) -> None:
    if set(splits) != set(SPLITS):
        raise UserError(f"splits {sorted(splits)} are not {', '.join(SPLITS)}")
    for split, counts in splits.items():
        if min(dataclasses.astuple(counts)) < 0 or bool(counts.tokens) != bool(counts.documents):
            raise UserError(
                f"{split} split of {counts.documents} documents, {counts.tokens} tokens"
            )


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardManifest:
    """A shard: the tokens of one part of a source, independent of all others.

    key: hash of what decides its content (`shards.shard_key`).
    empty: documents without text. bad: documents that are no text, passed over. first_bad: what
        was wrong with the first of those.
    copies: documents left out because they stand elsewhere.
    """

    format: int
    key: str
    tokenizer: str
    dtype: str
    empty: int
    bad: int
    first_bad: str
    copies: int
    splits: dict[str, SplitCounts]
    files: dict[str, FileRecord]

    def __post_init__(self) -> None:
        _check_splits(self.splits)


@dataclass(frozen=True)
class ShardRecord:
    """A shard of a store. folder: relative to the store. manifest: SHA-256 of its manifest."""

    folder: str
    manifest: str
    splits: dict[str, SplitCounts]

    def __post_init__(self) -> None:
        _check_splits(self.splits)


@dataclass(frozen=True)
class Manifest:
    """A store: shards in the order of their documents, and the tokenizer that made them.

    identity: hash of the name, the shards' keys, the tokenizer and what was left out as copies.
    fingerprint: hash of the tokens and document ends themselves, however they are cut up.
    empty, bad, copies: documents that were passed over, by reason.
    dtype: "uint16" or "uint32", little-endian, by vocabulary size.
    """

    format: int
    source: str
    kind: str
    identity: str
    fingerprint: str
    inputs: str
    tokenizer_kind: str
    tokenizer: str
    vocab_size: int
    eos_id: int
    dtype: str
    empty: int
    bad: int
    copies: int
    splits: dict[str, SplitCounts]
    shards: tuple[ShardRecord, ...]
    files: dict[str, FileRecord]

    def __post_init__(self) -> None:
        _check_splits(self.splits)
        if self.dtype not in WIDTHS:
            raise UserError(f"dtype {self.dtype!r} is not one of {', '.join(WIDTHS)}")
        for split in SPLITS:
            held = [shard.splits[split] for shard in self.shards]
            if sum(held, NO_COUNTS) != self.splits[split]:
                raise UserError(f"its {split} split is not the sum of its shards")


T = TypeVar("T", Manifest, ShardManifest)


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a finished store.

    Raises UserError where there is none (a preparation was interrupted) or it is not ours.
    """
    return _read(Manifest, directory, "token store")


def read_shard_manifest(directory: Path) -> ShardManifest:
    """The manifest of a finished shard; raises UserError as `read_manifest` does."""
    return _read(ShardManifest, directory, "shard")


def write_manifest(directory: Path, manifest: Manifest | ShardManifest) -> None:
    """Write manifest.json so that it is on disk before anything is renamed.

    That of a store has a checksum of itself; those of its shards have theirs in it.
    """
    said: dict[str, Any] = json.loads(json.dumps(asdict(manifest)))
    if isinstance(manifest, Manifest):
        said[_CHECKSUM] = _checksum(said)
    write_durably(directory / MANIFEST_NAME, json.dumps(said, indent=1) + "\n")


def _checksum(said: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def file_record(path: Path) -> FileRecord:
    """Size and hash of a file as it is."""
    return FileRecord(path.stat().st_size, file_sha256(path))


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
    width = WIDTHS[manifest.dtype]
    for name, record in manifest.files.items():
        if wrong := _size_difference(directory / name, record.bytes):
            yield directory, wrong
    for shard in manifest.shards:
        folder = _folder(directory, shard)
        for wrong in _shard_differences(folder, shard, width):
            yield folder, wrong


def _shard_differences(folder: Path, shard: ShardRecord, width: int) -> Iterator[str]:
    elsewhere = in_place.is_elsewhere(folder)
    sizes = {} if elsewhere else {"tokens": width}
    sizes |= dict.fromkeys(COLUMNS, 8)
    files = {
        f"{split}.{column}": size * (counts.tokens if column == "tokens" else counts.documents)
        for split, counts in shard.splits.items()
        for column, size in sizes.items()
        if counts.documents
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


def _read(kind: type[T], directory: Path, what: str) -> T:
    path = directory / MANIFEST_NAME
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != STORE_FORMAT:
            raise UserError(
                f"{directory} has store format {stored['format']}, this version reads "
                f"{STORE_FORMAT}; prepare it again"
            )
        # Stores of versions before this one have none.
        checksum = stored.pop(_CHECKSUM, None)
        manifest = from_plain(kind, stored, path=MANIFEST_NAME)
        if checksum not in (None, _checksum(stored)):
            raise ValueError("it was changed after it was written")
        return manifest
    except FileNotFoundError as error:
        raise UserError(
            f"{directory} is not a finished {what} (it has no {MANIFEST_NAME}); "
            "run `replay-jax prepare`"
        ) from error
    except UserError:
        raise
    except (OSError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete {directory} and prepare it again"
        ) from error
