"""Writes shards, and the stores that are made of them.

A folder without its manifest is nothing: the manifest is written when all else is on disk, and
then the folder gets its real name in one step.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from replay_jax.data.sources.documents import Document
from replay_jax.data.sources.durable import HashingFile, claimed, release, sync
from replay_jax.data.tokens.columns import Columns
from replay_jax.data.tokens.manifest import (
    COLUMNS,
    LOSS,
    MANIFEST_NAME,
    NO_COUNTS,
    SPLITS,
    STORE_FORMAT,
    FileRecord,
    Manifest,
    ShardManifest,
    ShardRecord,
    SplitCounts,
    file_record,
    read_shard_manifest,
    write_manifest,
)
from replay_jax.data.tokens.store import BYTE_LENGTHS_NAME, TOKENIZER_NAME, TokenStore
from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.errors import UserError


class ShardWriter:
    """Appends documents to the files of a shard in `folder`; `finish` makes it one."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._dtype = np.dtype(token_dtype(tokenizer.vocab_size)).newbyteorder("<")
        self._files: dict[str, HashingFile] = {}
        self._pieces: list[np.ndarray] = []
        begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        self._bos = np.array(begin, self._dtype)
        self._eos = np.array([tokenizer.eos_id], self._dtype)
        self.splits = dict.fromkeys(SPLITS, NO_COUNTS)
        self.written = dict.fromkeys(SPLITS, 0)  # ids
        self.documents_read, self.empty, self.bad, self.first_bad = 0, 0, 0, ""

    def append(self, pieces: Sequence[tuple[Document, bool]], ids: Sequence[np.ndarray]) -> None:
        """Add pieces of documents in order, each with "is its document's last piece".

        A document without bytes is only counted. Raises UserError for an id outside the
        vocabulary, OSError where the disk is full.
        """
        tokens: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
        known: dict[str, list[tuple[int, int, int]]] = {split: [] for split in SPLITS}
        for (document, last), piece in zip(pieces, ids, strict=True):
            self._pieces.append(piece)
            if not last:
                continue
            self._count(document)
            if document.bytes:
                split = "validation" if document.held_out else "train"
                whole = [self._bos, *self._pieces, self._eos]
                tokens[split] += whole
                known[split].append((sum(map(len, whole)), document.hashed, document.bytes))
            self._pieces = []
        for split in SPLITS:
            if known[split]:
                lengths, hashes, sizes = zip(*known[split], strict=True)
                self.add(
                    split,
                    np.concatenate(tokens[split]),
                    np.array(lengths, np.int64),
                    np.array(hashes, np.uint64),
                    np.array(sizes, np.int64),
                )

    def append_marked(self, documents: Sequence[tuple[Document, np.ndarray, np.ndarray]]) -> None:
        """Add whole documents in order, each with all its tokens and what counts, uint8.

        One without bytes is only counted. Raises as `append` does.
        """
        for document, _, _ in documents:
            self._count(document)
        for split in SPLITS:
            own = [
                found
                for found in documents
                if found[0].bytes and found[0].held_out == (split == "validation")
            ]
            if own:
                self.add(
                    split,
                    np.concatenate([ids for _, ids, _ in own]),
                    np.array([len(ids) for _, ids, _ in own], np.int64),
                    np.array([document.hashed for document, _, _ in own], np.uint64),
                    np.array([document.bytes for document, _, _ in own], np.int64),
                    loss=np.concatenate([loss for _, _, loss in own]),
                )

    def _count(self, document: Document) -> None:
        self.documents_read += 1
        if document.bad:
            self.bad += 1
            self.first_bad = self.first_bad or document.bad
        elif not document.bytes:
            self.empty += 1

    def add(
        self,
        split: str,
        ids: np.ndarray,
        lengths: np.ndarray,
        hashes: np.ndarray,
        sizes: np.ndarray,
        loss: np.ndarray | None = None,
    ) -> None:
        """Add whole documents: their ids one after another; per document the number of ids, its
        hash and its UTF-8 bytes; of a masked source for each id whether it counts, uint8."""
        if int(ids.max()) >= self._tokenizer.vocab_size:
            raise UserError(
                f"token id {int(ids.max())} does not fit the vocabulary of "
                f"{self._tokenizer.vocab_size}; the tokenizer's file is inconsistent"
            )
        self.write_tokens(split, ids)
        if loss is not None:
            self._file(f"{split}.{LOSS}").write(loss)
        stood_for = self._tokenizer.byte_lengths[ids].sum(dtype=np.int64)
        self.describe(split, lengths, hashes, sizes, int(stood_for))

    def write_tokens(self, split: str, ids: np.ndarray) -> None:
        """Add ids; the documents that they are of are told by `describe`."""
        self._file(f"{split}.tokens").write(ids.astype(self._dtype, copy=False))
        self.written[split] += len(ids)

    def describe(
        self,
        split: str,
        lengths: np.ndarray,
        hashes: np.ndarray,
        sizes: np.ndarray,
        token_bytes: int,
    ) -> None:
        """Add documents but for their ids, wherever these are."""
        before = self.splits[split]
        tokens, text_bytes = int(lengths.sum()), int(sizes.sum())
        self.splits[split] = before + SplitCounts(len(lengths), tokens, text_bytes, token_bytes)
        columns = {"documents": before.tokens + np.cumsum(lengths), "hashes": hashes}
        columns["sizes"] = sizes
        for column, values in columns.items():
            self._file(f"{split}.{column}").write(values.astype(COLUMNS[column], copy=False))

    def write_file(self, name: str, values: np.ndarray) -> None:
        """Add to a file of the shard that says where ids lie."""
        self._file(name).write(values.ravel())

    def finish(self, key: str, *, copies: int = 0) -> ShardManifest:
        """Write the manifest; the folder is a whole shard from here on."""
        files = {name: FileRecord(*self._files[name].finish()) for name in sorted(self._files)}
        manifest = ShardManifest(
            format=STORE_FORMAT,
            key=key,
            tokenizer=self._tokenizer.fingerprint,
            dtype=self._dtype.name,
            empty=self.empty,
            bad=self.bad,
            first_bad=self.first_bad,
            copies=copies,
            splits=self.splits,
            files=files,
        )
        write_manifest(self._folder, manifest)
        sync([self._folder])
        return manifest

    def close(self) -> None:
        """Close the files, finished or not."""
        for file in self._files.values():
            file.close()

    def _file(self, name: str) -> HashingFile:
        if name not in self._files:
            self._files[name] = HashingFile(self._folder / name)
        return self._files[name]


class StoreWriter:
    """Writes a store of one shard, of documents that come from no source."""

    def __init__(self, directory: Path, tokenizer: Tokenizer) -> None:
        self._directory, self._tokenizer = directory, tokenizer
        self._folder = directory.with_name(f"{directory.name}.shard")
        self._folder.mkdir(parents=True)
        self._shard = ShardWriter(self._folder, tokenizer)
        self.append = self._shard.append

    def finish(self, *, source: str, kind: str, identity: str, inputs: str) -> None:
        """Write both manifests; `TokenStore.open` reads the store from here on."""
        self._shard.finish(identity)
        facts = StoreFacts(source, kind, identity, inputs)
        write_store(self._directory, facts, [self._folder], self._tokenizer)


@dataclass(frozen=True)
class StoreFacts:
    """What a store's manifest says besides what its shards say."""

    source: str
    kind: str
    identity: str
    inputs: str
    masked: bool = False


def write_store(
    directory: Path, facts: StoreFacts, shards: Sequence[Path], tokenizer: Tokenizer
) -> None:
    """Make finished shards a store at `directory`; another process may do so at once.

    Reads all tokens once, for the fingerprint.
    """
    partial = directory.with_name(f"{directory.name}.partial")
    with claimed(partial, directory / MANIFEST_NAME, wait=True) as mine:
        if mine:
            if not facts.masked:  # of its text, whatever else is prepared with the same tokenizer
                tokenizer = replace(tokenizer, chat=None)
            (partial / TOKENIZER_NAME).write_text(tokenizer.to_json(), encoding="utf-8")
            tokenizer.byte_lengths.astype("<u2").tofile(partial / BYTE_LENGTHS_NAME)
            write_manifest(partial, _manifest(partial, facts, shards, tokenizer))
            sync([partial / TOKENIZER_NAME, partial / BYTE_LENGTHS_NAME, partial])
            into_place(partial, directory)


def into_place(partial: Path, finished: Path) -> None:
    """Give a claimed, whole folder its name; one of that name without a manifest is none."""
    if finished.exists():
        shutil.rmtree(finished)
    partial.rename(finished)
    release(finished)
    sync([finished.parent])


def token_dtype(vocab_size: int) -> str:
    """The narrowest of uint16 and uint32 that holds every id; ids must fit int32 rows."""
    if vocab_size > 2**31:
        raise UserError(f"a vocabulary of {vocab_size} ids does not fit 32-bit rows")
    return "uint16" if vocab_size <= 2**16 else "uint32"


def _manifest(
    directory: Path, facts: StoreFacts, shards: Sequence[Path], tokenizer: Tokenizer
) -> Manifest:
    found = [read_shard_manifest(shard) for shard in shards]
    counts = {split: sum((shard.splits[split] for shard in found), NO_COUNTS) for split in SPLITS}
    records = tuple(
        ShardRecord(
            os.path.relpath(shard, directory),
            file_record(shard / MANIFEST_NAME).sha256,
            manifest.splits,
        )
        for shard, manifest in zip(shards, found, strict=True)
    )
    manifest = Manifest(
        format=STORE_FORMAT,
        source=facts.source,
        kind=facts.kind,
        identity=facts.identity,
        fingerprint="",
        inputs=facts.inputs,
        tokenizer_kind=tokenizer.kind,
        tokenizer=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        dtype=token_dtype(tokenizer.vocab_size),
        empty=sum(shard.empty for shard in found),
        bad=sum(shard.bad for shard in found),
        copies=sum(shard.copies for shard in found),
        splits=counts,
        shards=records,
        files={name: file_record(directory / name) for name in (TOKENIZER_NAME, BYTE_LENGTHS_NAME)},
    )
    if facts.masked:
        read = {split: Columns(directory, manifest, split) for split in SPLITS}
        counted = {split: int(own.supervised.sum()) for split, own in read.items()}
        manifest = replace(manifest, supervised=counted)
    fingerprint = TokenStore(directory, manifest).computed_fingerprint()
    return replace(manifest, fingerprint=fingerprint)
