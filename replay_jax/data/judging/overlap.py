"""How much of what runs are judged by stands, word for word, in the rows that they train on.

Documents are split by content, so exact copies never straddle the split (`sources.split`), but a
passage of a held-out document may well stand in another document that is trained on: quotations,
licences, templates, near copies. Here every window of some tokens of a judged row is looked for in
all training rows that are drawn, and in no others.
"""

from dataclasses import dataclass

import numpy as np

from replay_jax.data.judging.tasks import TaskRows
from replay_jax.data.reading.pipeline import evaluation_rows
from replay_jax.data.tokens.store import TokenRows, TokenStore
from replay_jax.errors import UserError
from replay_jax.progress import step_by_step

# Tokens of training rows at a time: some dozen megabytes of hashes.
_BLOCK = 1 << 22
# Bits of a hash that a first look uses; a table of 64 Mi entries passes few windows on.
_FIRST_LOOK = 26
_BASE = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows that runs are judged by: tokens [R, L], and which of them are text and not padding."""

    name: str
    tokens: np.ndarray
    is_text: np.ndarray


@dataclass(frozen=True)
class Overlap:
    """What of one judged set stands in the training rows of one source.

    Attributes:
        judged, training: names.
        training_rows: how many rows of the source are trained on.
        window: tokens that must agree in a row to count.
        tokens: of the judged set, in rows of at least one window.
        covered: how many of them lie in a window that is trained on.
        rows: judged rows of at least one window.
        rows_mostly_covered: those of which more than half is covered.
        longest: tokens of the longest passage that windows cover without a gap.
        longest_row, longest_start: where it is.
    """

    judged: str
    training: str
    training_rows: int
    window: int
    tokens: int
    covered: int
    rows: int
    rows_mostly_covered: int
    longest: int
    longest_row: int
    longest_start: int

    @property
    def share(self) -> float:
        """Share of the judged tokens that are covered."""
        return self.covered / self.tokens


def held_out_rows(store: TokenStore, *, seq_len: int, sequences: int) -> Judged:
    """The fixed held-out rows of a source."""
    rows = evaluation_rows(store, seq_len=seq_len, sequences=sequences)
    held_out = store.rows("validation", seq_len)
    name = f"held-out {store.manifest.source}"
    return Judged(name, held_out.gather(rows), held_out.is_text(rows))


def right_answers(name: str, rows: TaskRows) -> Judged:
    """Every item of a task with its right choice."""
    tokens, counted = rows.tokens[rows.answer], rows.counted[rows.answer]
    ends = counted.shape[1] - np.argmax(counted[:, ::-1], axis=1)
    return Judged(f"task {name}", tokens, np.arange(tokens.shape[1])[None] <= ends[:, None])


def window_tokens(store: TokenStore, text_bytes: int) -> int:
    """Tokens that stand for about `text_bytes` bytes of a source's text, at least 2."""
    return max(2, round(text_bytes / store.bytes_per_token("train")))


def overlap(judged: Judged, rows: TokenRows, drawn: np.ndarray, *, window: int) -> Overlap:
    """Look for every window of a judged set in training rows.

    Args:
        judged: the set.
        rows: of the source's training split.
        drawn: int64 [n], which of them are trained on, each once.
        window: tokens.

    Raises:
        UserError: no judged row holds a window.
    """
    length = judged.tokens.shape[1]
    if window > length:
        raise UserError(
            f"rows of {judged.name} have {length} tokens and a window {window}: compare fewer bytes"
        )
    hashes = window_hashes(judged.tokens, window)
    windows = np.lib.stride_tricks.sliding_window_view(judged.is_text, window, axis=1)
    inside = np.asarray(windows.all(axis=2))
    if not inside.any():
        raise UserError(f"no row of {judged.name} has {window} tokens: compare fewer bytes")
    wanted = np.unique(hashes[inside])
    seen = _occurring(wanted, rows, drawn, window)
    place = np.minimum(np.searchsorted(seen, hashes), max(len(seen) - 1, 0))
    found = inside & (seen[place] == hashes) if len(seen) else np.zeros_like(inside)
    covered = _covered(found, window)
    measured = inside.any(axis=1)
    own = judged.is_text.sum(axis=1)
    length, row, start = _longest(covered)
    return Overlap(
        judged=judged.name,
        training=rows.store.manifest.source,
        training_rows=len(drawn),
        window=window,
        tokens=int(own[measured].sum()),
        covered=int(covered.sum()),
        rows=int(measured.sum()),
        rows_mostly_covered=int((covered.sum(axis=1) > own / 2).sum()),
        longest=length,
        longest_row=row,
        longest_start=start,
    )


def window_hashes(tokens: np.ndarray, window: int) -> np.ndarray:
    """uint64 hash of every `window` tokens along the last axis: [..., L] to [..., L - window + 1].

    A polynomial in the scrambled tokens modulo 2**64, put together from halves, so its cost grows
    with the logarithm of the window.
    """
    powers = tokens.astype(np.uint64)
    powers = (powers + np.uint64(1)) * _BASE
    powers ^= powers >> np.uint64(29)
    powers *= np.uint64(0xBF58476D1CE4E5B9)
    done, size = None, 0
    step, left = 1, window
    while left:
        if left & 1:
            done = powers if done is None else _join(done, size, powers, step)
            size += step
        left >>= 1
        if left:
            powers = _join(powers, step, powers, step)
            step *= 2
    assert done is not None
    return done


def _join(first: np.ndarray, size: int, second: np.ndarray, step: int) -> np.ndarray:
    """Hashes of windows of size + step tokens from those of their two parts."""
    count = first.shape[-1] - step
    factor = np.uint64(pow(int(_BASE), step, 2**64))
    return first[..., :count] * factor + second[..., size : size + count]


def _occurring(wanted: np.ndarray, rows: TokenRows, drawn: np.ndarray, window: int) -> np.ndarray:
    """Those of the sorted hashes `wanted` that a window of a drawn row has, sorted."""
    mask = np.uint64((1 << _FIRST_LOOK) - 1)
    maybe = np.zeros(1 << _FIRST_LOOK, bool)
    maybe[wanted & mask] = True
    hit = np.zeros(len(wanted), bool)
    many = max(1, _BLOCK // (rows.seq_len + 1))
    blocks = [drawn[start : start + many] for start in range(0, len(drawn), many)]
    for block in step_by_step(blocks, f"comparing with the rows of {rows.store.manifest.source}"):
        hashes = window_hashes(rows.gather(block), window).ravel()
        few = hashes[maybe[hashes & mask]]
        place = np.minimum(np.searchsorted(wanted, few), len(wanted) - 1)
        hit[place[wanted[place] == few]] = True
    return wanted[hit]


def _covered(found: np.ndarray, window: int) -> np.ndarray:
    """Which tokens [R, L] lie in a window that was found [R, L - window + 1]."""
    edges = np.zeros((found.shape[0], found.shape[1] + window), np.int32)
    edges[:, : found.shape[1]] += found
    edges[:, window:] -= found
    return np.cumsum(edges, axis=1)[:, :-1] > 0


def _longest(covered: np.ndarray) -> tuple[int, int, int]:
    """Length, row and start of the longest covered run; zeros if there is none."""
    padded = np.pad(covered, ((0, 0), (1, 1))).astype(np.int8)
    changes = np.diff(padded, axis=1)
    starts, ends = np.argwhere(changes == 1), np.argwhere(changes == -1)
    if not len(starts):
        return 0, 0, 0
    lengths = ends[:, 1] - starts[:, 1]
    best = int(np.argmax(lengths))
    return int(lengths[best]), int(starts[best, 0]), int(starts[best, 1])
