"""Rows of whole documents: none is cut, and what is left of a row is padding.

A row holds consecutive documents of the stored order, as many as fit into its seq_len + 1 tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from replay_jax.errors import UserError


@dataclass(frozen=True, eq=False)
class Packing:
    """Which documents each row of a split holds.

    seq_len: labels per row.
    ends: int64 [documents], one past each document's last token.
    first: int64 [rows + 1], the first document of each row, and the number of documents.
    """

    seq_len: int
    ends: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.first) - 1

    def starts(self, rows: np.ndarray) -> np.ndarray:
        """int64 [n]: the first token of each row."""
        before = self.first[rows] - 1
        return np.where(before < 0, 0, self.ends[before])

    def stops(self, rows: np.ndarray) -> np.ndarray:
        """int64 [n]: one past the last token of each row."""
        return self.ends[self.first[rows + 1] - 1]

    def gather(
        self, rows: np.ndarray, read: Callable[[int, int], np.ndarray], padding: int
    ) -> np.ndarray:
        """int32 [n, seq_len + 1]: what `read(start, stop)` gives of each row, padded."""
        found = np.full((len(rows), self.seq_len + 1), padding, np.int32)
        ranges = zip(self.starts(rows).tolist(), self.stops(rows).tolist(), strict=True)
        for row, (start, stop) in zip(found, ranges, strict=True):
            row[: stop - start] = read(start, stop)
        return found

    def segments(self, rows: np.ndarray) -> np.ndarray:
        """int32 [n, seq_len]: number of the document of each input, from 1 per row.

        Padding has the number that would come next.
        """
        marks = np.zeros((len(rows), self.seq_len), np.int32)
        marks[:, 0] = 1
        count = self.first[rows + 1] - self.first[rows]
        row_of_end = np.repeat(np.arange(len(rows)), count)
        skipped = np.repeat(self.first[rows] - (np.cumsum(count) - count), count)
        inside = self.ends[skipped + np.arange(count.sum())] - self.starts(rows)[row_of_end]
        kept = inside < self.seq_len
        marks[row_of_end[kept], inside[kept]] = 1
        return np.cumsum(marks, axis=1, dtype=np.int32)

    def is_text(self, rows: np.ndarray) -> np.ndarray:
        """bool [n, seq_len + 1]: which tokens are no padding."""
        lengths = self.stops(rows) - self.starts(rows)
        return np.arange(self.seq_len + 1)[None] < lengths[:, None]


def pack(ends: np.ndarray, seq_len: int) -> Packing:
    """Rows of seq_len + 1 tokens from documents that end at `ends` (int64, ascending).

    Raises UserError where a document is longer than a row.
    """
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]
    longest = int((ends - starts).max(initial=0))
    if longest > seq_len + 1:
        raise UserError(
            f"a document of {longest} tokens is longer than a row of {seq_len} + 1, and whole ones "
            f"are packed; set the source's max_tokens to {seq_len + 1} or raise training.seq_len"
        )
    after = np.searchsorted(ends, starts + seq_len + 1, side="right").tolist()
    first, document = [0], 0
    while document < len(after):
        document = after[document]
        first.append(document)
    return Packing(seq_len, ends, np.array(first, np.int64))
