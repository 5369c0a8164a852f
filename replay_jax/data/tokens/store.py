"""A prepared source: memory-mapped tokens with document ends, cut into rows of any length."""

import mmap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.data.tokens.manifest import SPLITS, Manifest, check_files, read_manifest
from replay_jax.data.tokens.tokenizer import Tokenizer, open_tokenizer
from replay_jax.errors import UserError

TOKENIZER_NAME = "tokenizer.json"
BYTE_LENGTHS_NAME = "byte_lengths.u16"


@dataclass(frozen=True, eq=False)
class TokenStore:
    """A finished store on disk; pages are read when asked for and never loaded whole.

    Files: {train,validation}.tokens (uint16 or uint32 ids), .documents (int64 end of each
    document, exclusive, its end-of-text token included), .hashes (uint64 content hash of each
    document); the tokenizer and its byte lengths; manifest.json. All little-endian.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(
        cls, path: str | Path, *, verify: bool = False, tokenizer: str | None = None
    ) -> "TokenStore":
        """Open a finished store; sizes are always checked, checksums with `verify`.

        Raises UserError where files are missing, cut or altered, or where the store was made
        with another tokenizer than the one of fingerprint `tokenizer`.
        """
        directory = Path(path)
        manifest = read_manifest(directory)
        check_files(directory, manifest, verify=verify)
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
    def _maps(self) -> dict[str, np.ndarray]:
        dtypes = {"tokens": self.manifest.dtype, "documents": "int64", "hashes": "uint64"}
        return {
            f"{split}.{part}": _mapped(self.path / f"{split}.{part}", dtype)
            for split in SPLITS
            for part, dtype in dtypes.items()
        }

    def tokens(self, split: str) -> np.ndarray:
        """All token ids of a split in document order, as a read-only memory map."""
        return self._maps[f"{split}.tokens"]

    def documents(self, split: str) -> np.ndarray:
        """int64[documents]: where each document ends in `tokens` (exclusive)."""
        return self._maps[f"{split}.documents"]

    def hashes(self, split: str) -> np.ndarray:
        """uint64[documents]: content hash of each document."""
        return self._maps[f"{split}.hashes"]

    def bytes_per_token(self, split: str) -> float:
        """UTF-8 bytes of text per token, end-of-text tokens counted as tokens."""
        counts = self.manifest.splits[split]
        return counts.text_bytes / counts.tokens

    def row_count(self, split: str, seq_len: int) -> int:
        """Rows of seq_len + 1 tokens, seq_len apart, that a split holds (may be 0)."""
        return max(0, (self.manifest.splits[split].tokens - 1) // seq_len)

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


@dataclass(frozen=True)
class TokenRows:
    """Rows of one split: row i is tokens[i·L : i·L + L + 1], so every label is used once."""

    store: TokenStore
    split: str
    seq_len: int

    def __len__(self) -> int:
        return self.store.row_count(self.split, self.seq_len)

    def __getitem__(self, row: int) -> np.ndarray:
        """int32[seq_len + 1]; raises IndexError outside [0, len)."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} outside [0, {len(self)})")
        start = row * self.seq_len
        return self.store.tokens(self.split)[start : start + self.seq_len + 1].astype(np.int32)

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """int32[n, seq_len + 1] of n rows at once; raises IndexError outside [0, len)."""
        self._check(rows)
        windows = np.lib.stride_tricks.sliding_window_view(
            self.store.tokens(self.split), self.seq_len + 1
        )
        return windows[rows * self.seq_len].astype(np.int32)

    def segments(self, rows: np.ndarray) -> np.ndarray:
        """int32[n, seq_len]: number of the document each input token belongs to, from 1 per row.

        The end-of-text token belongs to the document that it ends.
        """
        self._check(rows)
        ends = self.store.documents(self.split)
        starts = rows * self.seq_len
        # A document that ends at the row's first token begins there: no new segment inside.
        low = np.searchsorted(ends, starts, side="right")
        count = np.searchsorted(ends, starts + self.seq_len - 1, side="right") - low
        row_of_end = np.repeat(np.arange(len(rows)), count)
        first = np.repeat(low - (np.cumsum(count) - count), count)
        inside = ends[first + np.arange(count.sum())] - starts[row_of_end]
        marks = np.zeros((len(rows), self.seq_len), np.int32)
        marks[:, 0] = 1
        marks[row_of_end, inside] = 1
        return np.cumsum(marks, axis=1, dtype=np.int32)

    def label_bytes(self, rows: np.ndarray) -> np.ndarray:
        """int64[n]: UTF-8 bytes that each row's labels stand for."""
        return self.store.byte_lengths[self.gather(rows)[:, 1:]].sum(axis=1, dtype=np.int64)

    def _check(self, rows: np.ndarray) -> None:
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()}..{rows.max()} outside [0, {len(self)})")


def _mapped(path: Path, dtype: str) -> np.ndarray:
    """A read-only memory map as a plain array; an empty file cannot be mapped."""
    if path.stat().st_size == 0:
        return np.empty(0, np.dtype(dtype).newbyteorder("<"))
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Rows are drawn in random order: reading ahead would only push other pages out.
    if hasattr(mmap, "MADV_RANDOM") and path.suffix == ".tokens":
        pages.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(pages, np.dtype(dtype).newbyteorder("<"))
