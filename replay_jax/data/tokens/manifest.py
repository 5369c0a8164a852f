"""What shards and stores say about themselves: one JSON file each, written last, read first."""

import dataclasses
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from replay_jax.data.sources.durable import file_sha256, json_sha256, write_durably
from replay_jax.errors import UserError
from replay_jax.strict import from_plain

# Raise it when the layout of a store changes; older stores are then prepared again.
STORE_FORMAT = 2
SPLITS = ("train", "validation")
# Of masked splits, beside COLUMNS: for each token whether it counts in the loss, uint8.
LOSS = "loss"
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

    @property
    def masked(self) -> bool:
        """Whether it says which tokens count."""
        return any(name.endswith(f".{LOSS}") for name in self.files)


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
    supervised: by split, how many tokens count in the loss; None where all do. Rows of a store that
        has it hold whole documents.
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
    supervised: dict[str, int] | None = None

    def __post_init__(self) -> None:
        _check_splits(self.splits)
        if self.supervised is not None and set(self.supervised) != set(SPLITS):
            raise UserError(f"supervised tokens of {sorted(self.supervised)}")
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
        if manifest.supervised is None:
            del said["supervised"]  # as it was written before there was such a field
        said[_CHECKSUM] = json_sha256(said)
    write_durably(directory / MANIFEST_NAME, json.dumps(said, indent=1) + "\n")


def file_record(path: Path) -> FileRecord:
    """Size and hash of a file as it is."""
    return FileRecord(path.stat().st_size, file_sha256(path))


def stores_of(folder: Path) -> dict[str, list[Path]]:
    """The finished stores in a folder by their fingerprints, in the order of their names.

    A folder whose manifest cannot be read is none.
    """
    found: dict[str, list[Path]] = {}
    for manifest in sorted(folder.glob(f"*/{MANIFEST_NAME}")):
        try:
            fingerprint = read_manifest(manifest.parent).fingerprint
        except UserError:
            continue
        found.setdefault(fingerprint, []).append(manifest.parent)
    return found


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
        added = {"supervised": None} if kind is Manifest else {}
        try:
            manifest = from_plain(kind, {**added, **stored}, path=MANIFEST_NAME)
        except UserError as error:
            raise ValueError(str(error)) from error
        if checksum not in (None, json_sha256(stored)):
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
