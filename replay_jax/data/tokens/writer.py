"""Writes a token store so that an interruption loses little and never leaves half a store.

Files grow in "<store>.partial". A checkpoint makes them durable and records their lengths in
progress.json; continuing cuts them back to those lengths. The manifest is written when all is
done, and then the folder gets its real name in one step.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from replay_jax.data.sources.documents import Document
from replay_jax.data.sources.durable import file_sha256, write_durably
from replay_jax.data.tokens.manifest import (
    SPLITS,
    STORE_FORMAT,
    FileRecord,
    Manifest,
    SplitCounts,
    write_manifest,
)
from replay_jax.data.tokens.store import BYTE_LENGTHS_NAME, TOKENIZER_NAME
from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.errors import UserError

_PROGRESS_NAME = "progress.json"


@dataclass
class _Counts:
    documents: int = 0
    tokens: int = 0
    text_bytes: int = 0
    token_bytes: int = 0


@dataclass
class StoreProgress:
    """How far a preparation has come: documents read, passed over, and counts per split."""

    documents_read: int = 0
    passed_over: int = 0
    splits: dict[str, _Counts] = field(
        default_factory=lambda: {split: _Counts() for split in SPLITS}
    )

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the documents written so far."""
        return sum(counts.text_bytes for counts in self.splits.values())

    @property
    def tokens(self) -> int:
        """Tokens written so far."""
        return sum(counts.tokens for counts in self.splits.values())


class StoreWriter:
    """Appends documents to the store at `directory`; picks up where an earlier writer stopped."""

    def __init__(self, directory: Path, tokenizer: Tokenizer) -> None:
        self._directory = directory
        self._partial = directory.with_name(directory.name + ".partial")
        self._tokenizer = tokenizer
        self._dtype = np.dtype(token_dtype(tokenizer.vocab_size)).newbyteorder("<")
        self._partial.mkdir(parents=True, exist_ok=True)
        self.progress = _read_progress(self._partial / _PROGRESS_NAME)
        self._files = {name: self._open(name, size) for name, size in self._sizes().items()}
        self._pieces: list[np.ndarray] = []
        begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        self._bos = np.array(begin, self._dtype)
        self._eos = np.array([tokenizer.eos_id], self._dtype)

    def append(self, pieces: Sequence[tuple[Document, bool]], ids: Sequence[np.ndarray]) -> None:
        """Add pieces of documents in order, each with "is its document's last piece".

        A document without bytes is only counted. Raises UserError for an id outside the
        vocabulary, OSError where the disk is full.
        """
        waiting: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        ends: dict[str, list[int]] = {split: [] for split in SPLITS}
        hashes: dict[str, list[int]] = {split: [] for split in SPLITS}
        for (document, last), piece in zip(pieces, ids, strict=True):
            self._pieces.append(piece)
            if not last:
                continue
            self.progress.documents_read += 1
            if document.bytes:
                split = "validation" if document.held_out else "train"
                counts = self.progress.splits[split]
                counts.documents += 1
                counts.text_bytes += document.bytes
                document_pieces = [self._bos, *self._pieces, self._eos]
                counts.tokens += sum(map(len, document_pieces))
                waiting[split] += document_pieces
                ends[split].append(counts.tokens)
                hashes[split].append(document.hashed)
            else:
                self.progress.passed_over += 1
            self._pieces = []
        for split in SPLITS:
            if ends[split]:
                self._write(split, np.concatenate(waiting[split]), ends[split], hashes[split])

    def _write(self, split: str, ids: np.ndarray, ends: list[int], hashes: list[int]) -> None:
        if int(ids.max()) >= self._tokenizer.vocab_size:
            raise UserError(
                f"token id {int(ids.max())} does not fit the vocabulary of "
                f"{self._tokenizer.vocab_size}; the tokenizer's file is inconsistent"
            )
        lengths = self._tokenizer.byte_lengths[ids]
        self.progress.splits[split].token_bytes += int(lengths.sum(dtype=np.int64))
        self._files[f"{split}.tokens"].write(ids.astype(self._dtype, copy=False).tobytes())
        self._files[f"{split}.documents"].write(np.array(ends, "<i8").tobytes())
        self._files[f"{split}.hashes"].write(np.array(hashes, "<u8").tobytes())

    def checkpoint(self) -> None:
        """Make all whole documents that were added durable."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        write_durably(self._partial / _PROGRESS_NAME, json.dumps(asdict(self.progress)))

    def finish(self, *, source: str, kind: str, identity: str, inputs: str) -> Manifest:
        """Write the manifest and give the folder its name; the store is whole from here on."""
        self.checkpoint()
        self.close()
        write_durably(self._partial / TOKENIZER_NAME, self._tokenizer.to_json())
        self._tokenizer.byte_lengths.astype("<u2").tofile(self._partial / BYTE_LENGTHS_NAME)
        names = sorted([*self._files, TOKENIZER_NAME, BYTE_LENGTHS_NAME])
        paths = [self._partial / name for name in names]
        _sync(paths)
        files = {path.name: FileRecord(path.stat().st_size, file_sha256(path)) for path in paths}
        manifest = Manifest(
            format=STORE_FORMAT,
            source=source,
            kind=kind,
            identity=identity,
            fingerprint=_fingerprint(files, self._tokenizer, self._dtype),
            inputs=inputs,
            tokenizer_kind=self._tokenizer.kind,
            tokenizer=self._tokenizer.fingerprint,
            vocab_size=self._tokenizer.vocab_size,
            eos_id=self._tokenizer.eos_id,
            dtype=self._dtype.name,
            passed_over=self.progress.passed_over,
            splits={name: SplitCounts(**vars(c)) for name, c in self.progress.splits.items()},
            files=files,
        )
        write_manifest(self._partial, manifest)
        self._partial.rename(self._directory)
        _sync([self._directory.parent])
        (self._directory / _PROGRESS_NAME).unlink()
        return manifest

    def close(self) -> None:
        """Close the files; what was not checkpointed is written again by the next writer."""
        for file in self._files.values():
            file.close()

    def _sizes(self) -> dict[str, int]:
        sizes = {}
        for split, counts in self.progress.splits.items():
            sizes[f"{split}.tokens"] = counts.tokens * self._dtype.itemsize
            sizes |= {f"{split}.{part}": counts.documents * 8 for part in ("documents", "hashes")}
        return sizes

    def _open(self, name: str, size: int) -> IO[bytes]:
        path = self._partial / name
        path.touch()
        if path.stat().st_size < size:
            raise UserError(
                f"{path} is shorter than its progress file says; delete {self._partial} "
                "and prepare again"
            )
        os.truncate(path, size)
        return path.open("ab", buffering=1 << 20)


def token_dtype(vocab_size: int) -> str:
    """The narrowest of uint16 and uint32 that holds every id; ids must fit int32 rows."""
    if vocab_size > 2**31:
        raise UserError(f"a vocabulary of {vocab_size} ids does not fit 32-bit rows")
    return "uint16" if vocab_size <= 2**16 else "uint32"


def _read_progress(path: Path) -> StoreProgress:
    if not path.exists():
        return StoreProgress()
    stored = json.loads(path.read_text(encoding="utf-8"))
    splits = {name: _Counts(**counts) for name, counts in stored.pop("splits").items()}
    return StoreProgress(**stored, splits=splits)


def _fingerprint(files: dict[str, FileRecord], tokenizer: Tokenizer, dtype: np.dtype) -> str:
    parts = [
        f"{name} {record.sha256}"
        for name, record in files.items()
        if name.endswith((".tokens", ".documents"))
    ]
    text = "\n".join([str(STORE_FORMAT), tokenizer.fingerprint, dtype.name, *parts])
    return hashlib.sha256(text.encode()).hexdigest()


def _sync(paths: Iterable[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
