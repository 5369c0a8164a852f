"""Which rows of every global batch somebody reads: all, the block of a host, or any others."""

import numpy as np

BatchRows = slice | np.ndarray  # a slice of the batch, or numbers of its rows
ALL_ROWS = slice(None)


def row_numbers(rows: BatchRows, batch_size: int) -> np.ndarray:
    """Returns int64 [rows]: numbers of rows within a batch; IndexError for one beyond it."""
    return np.arange(batch_size)[rows]


def row_blocks(numbers: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Row numbers as blocks (first, one past the last).

    Raises ValueError unless they ascend, which is the order in which devices hold them.
    """
    steps = np.diff(numbers)
    if not len(numbers) or np.any(steps < 1):
        raise ValueError(f"rows of a batch must ascend to be counted, not {numbers.tolist()}")
    breaks = np.flatnonzero(steps > 1)
    firsts, lasts = numbers[[0, *(breaks + 1)]], numbers[[*breaks, -1]]
    return tuple(zip(firsts.tolist(), (lasts + 1).tolist(), strict=True))
