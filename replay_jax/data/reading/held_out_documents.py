"""Which documents the held-out rows are of, so that the luck of having read these shows.

A record of every row would be long and rows of one document are not independent, so sums are kept
by document, and by blocks of neighbouring documents where there are many.
"""

from dataclasses import dataclass

import numpy as np

from replay_jax.data.reading.pipeline import evaluation_rows
from replay_jax.data.tokens.store import TokenStore

# Chosen: a standard error from 256 blocks is itself known to 4.4 % (1 / sqrt(2 · 255)), and a set
# takes 2 kB at every state that is measured.
MOST_BLOCKS = 256


@dataclass(frozen=True)
class HeldOutDocuments:
    """The documents of a held-out set.

    Attributes:
        document: for each of D documents or blocks, the place of its (first) document in the
            validation split, ascending.
        of_row: int64 [sequences]: which of the D a row belongs to, in the order of evaluation.
    """

    document: tuple[int, ...]
    of_row: np.ndarray

    def sums(self, by_row: np.ndarray) -> np.ndarray:
        """float64 [D] from a value of each row; what follows the last row is padding."""
        kept = by_row[: len(self.of_row)]
        return np.bincount(self.of_row, weights=kept, minlength=len(self.document))


def held_out_documents(
    store: TokenStore, *, seq_len: int, sequences: int, most: int = MOST_BLOCKS
) -> HeldOutDocuments:
    """The documents of the rows of `pipeline.held_out_dataset`.

    A row that several documents share counts as the one that its middle label is of. Of more than
    `most` documents, neighbours make a block, so many in each as equally as can be.

    Raises UserError where the split has too few rows.
    """
    rows = evaluation_rows(store, seq_len=seq_len, sequences=sequences)
    middle_label = store.rows("validation", seq_len).middle_labels(rows)
    ends = store.documents("validation")
    places, of_row = np.unique(
        np.searchsorted(ends, middle_label, side="right"), return_inverse=True
    )
    blocks = min(most, len(places))
    block = np.arange(len(places)) * blocks // len(places)
    first = np.searchsorted(block, np.arange(blocks))
    return HeldOutDocuments(tuple(places[first].tolist()), block[of_row])
