"""A prepared source: memory-mapped tokens with document ends, cut into rows of any length."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.data.conversations.packing import Packing
from replay_jax.data.sources import in_place
from replay_jax.data.tokens.columns import Columns, fingerprint
from replay_jax.data.tokens.integrity import content_difference, size_differences
from replay_jax.data.tokens.manifest import (
    LOSS,
    MANIFEST_NAME,
    SPLITS,
    FileRecord,
    Manifest,
    read_manifest,
    read_shard_manifest,
)
from replay_jax.data.tokens.tokenizer import Tokenizer, open_tokenizer
from replay_jax.errors import UserError

TOKENIZER_NAME = "tokenizer.json"
BYTE_LENGTHS_NAME = "byte_lengths.u16"


@dataclass(frozen=True, eq=False)
class TokenStore:
    """A finished store on disk; pages are read when asked for and never loaded whole.

    Its shards are folders beside it with, for each split that they have, {split}.tokens (uint16
    or uint32 ids), .documents (int64 end of each document in the shard, exclusive, its
    end-of-text token included), .hashes (uint64 content hash of each document) and .sizes (int64
    UTF-8 bytes of each); where not all tokens count in the loss, .loss (uint8 of each token,
    0 or 1). The tokens of a split are those of all shards in order. The folder of
    the store has the tokenizer, its byte lengths and manifest.json. All is little-endian. Of a
    source of token files a shard has instead of tokens where these lie (`columns.ShardTokens`).
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, *, tokenizer: str | None = None) -> "TokenStore":
        """Open a finished store; sizes are checked, checksums by `check_store`.

        Raises UserError where files are missing or cut, or where the store was made with another
        tokenizer than the one of fingerprint `tokenizer`.
        """
        directory = Path(os.path.abspath(path))  # workers may stand elsewhere
        manifest = read_manifest(directory)
        for folder, wrong in size_differences(directory, manifest):
            raise UserError(f"{wrong}; delete {folder} and prepare it again")
        if tokenizer is not None and manifest.tokenizer != tokenizer:
            raise UserError(
                f"{directory} was prepared with tokenizer {manifest.tokenizer[:12]}…, "
                f"not {tokenizer[:12]}…; prepare the source again with this tokenizer"
            )
        return cls(directory, manifest)

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map would be pickled as a copy of the whole file; the reader may stand elsewhere.
        return TokenStore.open, (self.path.absolute(),)

    @property
    def fingerprint(self) -> str:
        """Hash of the tokens and document ends of both splits and of the tokenizer."""
        return self.manifest.fingerprint

    @property
    def vocab_size(self) -> int:
        """Number of token ids, end-of-text included."""
        return self.manifest.vocab_size

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made this store, from the store's own copy."""
        return open_tokenizer(self.path / TOKENIZER_NAME)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        """uint16[vocab_size]: UTF-8 bytes each token stands for; 0 for end-of-text."""
        return np.fromfile(self.path / BYTE_LENGTHS_NAME, "<u2")

    @cached_property
    def _columns(self) -> dict[str, "Columns"]:
        return {split: Columns(self.path, self.manifest, split) for split in SPLITS}

    def columns(self, split: str) -> "Columns":
        """The shards of a split as they lie on disk."""
        return self._columns[split]

    def tokens(self, split: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Token ids [start, stop) of a split in document order."""
        total = self.manifest.splits[split].tokens
        return self.columns(split).read(start, total if stop is None else stop)

    def documents(self, split: str) -> np.ndarray:
        """int64[documents]: where each document of a split ends (exclusive)."""
        return self.columns(split).documents()

    def hashes(self, split: str) -> list[np.ndarray]:
        """uint64[documents] for each shard: content hash of each document."""
        columns = self.columns(split)
        return [columns.column("hashes", number) for number in range(len(columns.starts))]

    def bytes_per_token(self, split: str) -> float:
        """UTF-8 bytes of text per token, end-of-text tokens counted as tokens."""
        counts = self.manifest.splits[split]
        return counts.text_bytes / counts.tokens

    def row_count(self, split: str, seq_len: int) -> int:
        """Rows of seq_len + 1 tokens that a split holds (may be 0): seq_len apart, or packed."""
        if self.masked:
            return len(self.columns(split).packing(seq_len))
        return max(0, (self.manifest.splits[split].tokens - 1) // seq_len)

    @property
    def masked(self) -> bool:
        """Whether not all tokens count in the loss, and rows hold whole documents."""
        return self.manifest.supervised is not None

    def rows(self, split: str, seq_len: int) -> "TokenRows":
        """Random access to a split's rows; raises UserError where it holds less than one."""
        if seq_len < 1:
            raise UserError(f"seq_len {seq_len} must be at least 1")
        if self.row_count(split, seq_len) == 0:
            counts = self.manifest.splits[split]
            raise UserError(
                f"the {split} split of {self.manifest.source!r} has {counts.tokens} tokens "
                f"({counts.documents} documents), less than one sequence of {seq_len} + 1; "
                "give more text or a shorter seq_len"
            )
        return TokenRows(self, split, seq_len)

    def computed_fingerprint(self) -> str:
        """The fingerprint, from the files; reads all tokens."""
        return fingerprint(self._columns, self.manifest)


def check_store(path: str | Path) -> list[str]:
    """What differs between a store's files and its checksums and fingerprint; reads all of it.

    Raises UserError where there is no store.
    """
    directory = Path(os.path.abspath(path))
    manifest = read_manifest(directory)
    found = [content_difference(directory / n, record) for n, record in manifest.files.items()]
    for shard in manifest.shards:
        folder = directory / shard.folder
        name = os.path.normpath(folder / MANIFEST_NAME)
        try:
            size = os.stat(name).st_size
            own = read_shard_manifest(Path(os.path.normpath(folder)))
        except (ValueError, OSError) as error:  # UserError, and names that can be none
            found.append(f"{name}: {error}")
            continue
        found.append(content_difference(Path(name), FileRecord(size, shard.manifest)))
        found += [content_difference(Path(name).with_name(n), r) for n, r in own.files.items()]
        found.append(in_place.content_difference(Path(name).parent))
    differences = [wrong for wrong in found if wrong is not None]
    differences = differences or [wrong for _, wrong in size_differences(directory, manifest)]
    if not differences and TokenStore(directory, manifest).computed_fingerprint() != (
        manifest.fingerprint
    ):
        differences.append(f"{directory}: its tokens are not those of its fingerprint")
    return differences


@dataclass(frozen=True)
class TokenRows:
    """Rows of one split: row i is tokens[i·L : i·L + L + 1], so every label is used once.

    Rows of a masked store hold whole documents instead (`Packing`), and their padding ends text.
    """

    store: TokenStore
    split: str
    seq_len: int

    def __len__(self) -> int:
        return self.store.row_count(self.split, self.seq_len)

    def __getitem__(self, row: int) -> np.ndarray:
        """int32[seq_len + 1]; raises IndexError outside [0, len)."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} outside [0, {len(self)})")
        return self.gather(np.array([row]))[0]

    @cached_property
    def packing(self) -> Packing | None:
        """Which documents the rows hold; None for rows of a stream."""
        columns = self.store.columns(self.split)
        return columns.packing(self.seq_len) if self.store.masked else None

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """int32[n, seq_len + 1] of n rows at once; raises IndexError outside [0, len)."""
        self._check(rows)
        columns, starts = self.store.columns(self.split), rows * self.seq_len
        if self.packing is not None:
            return self.packing.gather(rows, columns.read, self.store.manifest.eos_id)
        found = np.empty((len(rows), self.seq_len + 1), np.int32)
        first, last = columns.shard_of(starts), columns.shard_of(starts + self.seq_len)
        within = first == last
        for shard, own in _groups(first[within], np.flatnonzero(within)):
            inside = starts[own] - columns.starts[shard]
            found[own] = columns.tokens(shard).windows(inside, self.seq_len + 1)
        for row in np.flatnonzero(~within):
            found[row] = columns.read(int(starts[row]), int(starts[row]) + self.seq_len + 1)
        return found

    def segments(self, rows: np.ndarray) -> np.ndarray:
        """int32[n, seq_len]: number of the document each input token belongs to, from 1 per row.

        The end-of-text token belongs to the document that it ends.
        """
        self._check(rows)
        if self.packing is not None:
            return self.packing.segments(rows)
        columns, starts = self.store.columns(self.split), rows * self.seq_len
        first = columns.shard_of(starts)
        count = columns.shard_of(starts + self.seq_len - 1) - first + 1
        row_of_shard = np.repeat(np.arange(len(rows)), count)
        shards = np.repeat(first - (np.cumsum(count) - count), count) + np.arange(count.sum())
        marks = np.zeros((len(rows), self.seq_len), np.int32)
        marks[:, 0] = 1
        for shard, own in _groups(shards, row_of_shard):
            ends = columns.column("documents", shard)
            self._mark(marks, own, ends, starts[own] - columns.starts[shard])
        return np.cumsum(marks, axis=1, dtype=np.int32)

    def _mark(
        self, marks: np.ndarray, rows: np.ndarray, ends: np.ndarray, starts: np.ndarray
    ) -> None:
        """Mark where documents begin inside rows; `starts` are positions in the ends' shard."""
        # A document that ends at the row's first token begins there: no new segment inside.
        low = np.searchsorted(ends, starts, side="right")
        count = np.searchsorted(ends, starts + self.seq_len - 1, side="right") - low
        row_of_end = np.repeat(np.arange(len(rows)), count)
        first = np.repeat(low - (np.cumsum(count) - count), count)
        inside = ends[first + np.arange(count.sum())] - starts[row_of_end]
        marks[rows[row_of_end], inside] = 1

    def label_bytes(self, rows: np.ndarray) -> np.ndarray:
        """int64[n]: UTF-8 bytes that each row's labels stand for, of those that count."""
        found = self.store.byte_lengths[self.gather(rows)[:, 1:]]
        counted = self.counted(rows)
        return (found if counted is None else found * counted).sum(axis=1, dtype=np.int64)

    def counted(self, rows: np.ndarray) -> np.ndarray | None:
        """bool[n, seq_len]: which labels of rows count in the loss; None where all do."""
        if self.packing is None:
            return None
        self._check(rows)
        columns = self.store.columns(self.split)
        found = self.packing.gather(rows, lambda start, stop: columns.read(start, stop, LOSS), 0)
        return found[:, 1:] > 0

    def is_text(self, rows: np.ndarray) -> np.ndarray:
        """bool[n, seq_len + 1]: which tokens are no padding."""
        if self.packing is not None:
            return self.packing.is_text(rows)
        return np.ones((len(rows), self.seq_len + 1), bool)

    def middle_labels(self, rows: np.ndarray) -> np.ndarray:
        """int64[n]: where in the split the middle label of each row is."""
        if self.packing is None:
            return rows * self.seq_len + 1 + self.seq_len // 2
        return (self.packing.starts(rows) + self.packing.stops(rows)) // 2

    def supervised(self) -> np.ndarray | None:
        """int64[rows]: how many labels of each row count in the loss; None where all do."""
        if self.packing is None:
            return None
        first = self.packing.first[:-1]
        return np.add.reduceat(self.store.columns(self.split).supervised, first)

    def _check(self, rows: np.ndarray) -> None:
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()}..{rows.max()} outside [0, {len(self)})")


def _groups(keys: np.ndarray, values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The values of each key."""
    if not len(keys):
        return
    order = np.argsort(keys, kind="stable")
    found, first = np.unique(keys[order], return_index=True)
    yield from zip(found.tolist(), np.split(values[order], first[1:]), strict=True)
