"""What a token store says about itself: one JSON file, written last and read first."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from replay_jax.data.sources.durable import file_sha256, write_durably
from replay_jax.errors import UserError

# Raise it when the layout of a store changes; older stores are then prepared again.
STORE_FORMAT = 1
SPLITS = ("train", "validation")
MANIFEST_NAME = "manifest.json"


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


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file of the store."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of manifest.json.

    identity: hash of the inputs, the source's configuration and the tokenizer.
    fingerprint: hash of the tokens and document ends themselves.
    passed_over: documents that were empty, or copies of separately held-out ones.
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
    passed_over: int
    splits: dict[str, SplitCounts]
    files: dict[str, FileRecord]


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a finished store.

    Raises UserError where there is none (a preparation was interrupted) or it is not ours.
    """
    path = directory / MANIFEST_NAME
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != STORE_FORMAT:
            raise UserError(
                f"{directory} has store format {stored['format']}, this version reads "
                f"{STORE_FORMAT}; prepare it again"
            )
        stored["splits"] = {
            name: SplitCounts(**counts) for name, counts in stored["splits"].items()
        }
        stored["files"] = {name: FileRecord(**record) for name, record in stored["files"].items()}
        return Manifest(**stored)
    except FileNotFoundError as error:
        raise UserError(
            f"{directory} is not a finished token store (it has no {MANIFEST_NAME}); "
            "run `replay-jax prepare`"
        ) from error
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete {directory} and prepare it again"
        ) from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json so that it is on disk before anything is renamed."""
    write_durably(directory / MANIFEST_NAME, json.dumps(asdict(manifest), indent=1) + "\n")


def check_files(directory: Path, manifest: Manifest, *, verify: bool) -> None:
    """Compare sizes, and with `verify` SHA-256, of all files with the manifest.

    Raises UserError naming the file that differs.
    """
    for name, record in manifest.files.items():
        path = directory / name
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise UserError(
                f"{path} is missing; delete {directory} and prepare it again"
            ) from error
        if size != record.bytes:
            raise UserError(
                f"{path} has {size} bytes where its manifest says {record.bytes}; "
                f"{_again(directory)}"
            )
        if verify and (found := file_sha256(path)) != record.sha256:
            raise UserError(
                f"{path} was altered: its SHA-256 is {found[:12]}… where its manifest says "
                f"{record.sha256[:12]}…; {_again(directory)}"
            )


def _again(directory: Path) -> str:
    return f"delete {directory} and prepare it again"
