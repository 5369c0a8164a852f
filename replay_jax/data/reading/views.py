"""Which rows of a source a run may draw, and in which order."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from replay_jax.errors import UserError
from replay_jax.schedule.permutation import ORDER, permuted

_BLOCK = 1 << 20  # draws looked at together


@dataclass(frozen=True)
class SourceView:
    """The rows of one source that a run may draw, and the order in which it draws them.

    A budget is the first `budget_rows` rows of one fixed permutation of the source, so budgets
    of one seed are nested: a larger one contains every row of a smaller one. The budget is cut
    before the rows are shuffled, and draw j takes place j modulo the budget in the order of epoch
    j // budget; each epoch has its own order and contains every row once.

    Attributes:
        source: name of the source.
        fingerprint: identity of the source's tokens, from its store; text that
            no other source has while the data is not prepared.
        seq_len: labels per row.
        pool_rows: rows in the training split, or None while the data is not prepared: then
            schedules and ledgers can be planned, but rows have no numbers yet.
        budget_rows: unique rows that may be drawn, or None for all of them.
        seed: of the permutation that budgets are cut from, and of the order of every epoch.
        repeat: whether rows may be drawn again once all have been.
        same_order: whether every epoch has the order of the first, as the authors' code has it.

    Raises UserError for an empty source, or a budget that is not positive or exceeds the source.
        labels_per_row: of the whole split, how many labels of a row count in the loss on average;
            None where all do, or where the data is not prepared.
        budget_labels: how many labels of the rows that may be drawn count, None likewise.
    """

    source: str
    fingerprint: str
    seq_len: int
    pool_rows: int | None
    budget_rows: int | None
    seed: int
    repeat: bool
    same_order: bool = False
    labels_per_row: float | None = None
    budget_labels: int | None = None

    def __post_init__(self) -> None:
        if self.seq_len < 1:
            raise UserError(f"seq_len {self.seq_len} must be at least 1")
        if self.pool_rows is not None and self.pool_rows < 1:
            raise UserError(
                f"source {self.source!r} has {self.pool_rows} training rows of "
                f"{self.seq_len + 1} tokens; it needs one at least, so change its size or seq_len"
            )
        if self.budget_rows is None:
            return
        if self.budget_rows < 1:
            raise UserError(
                f"a budget of {self.budget_rows} rows of {self.source!r} is empty; give at least 1"
            )
        if self.pool_rows is not None and self.budget_rows > self.pool_rows:
            raise UserError(
                f"a budget of {self.budget_rows} rows exceeds the {self.pool_rows} training rows "
                f"of source {self.source!r}"
            )

    @property
    def rows(self) -> int | None:
        """Unique rows that may be drawn; None for an unprepared source without a budget."""
        return self.budget_rows if self.budget_rows is not None else self.pool_rows

    def digest(self) -> bytes:
        """Returns 16 bytes that decide the row of every draw.

        Equal digests mean equal rows for equal draws. The digest depends neither on the schedule
        and its epochs, nor on the name of the source, nor on whether it may repeat.
        """
        facts = {
            "order": ORDER,
            "fingerprint": self.fingerprint,
            "seq_len": self.seq_len,
            "pool_rows": self.pool_rows,
            "budget_rows": self.budget_rows,
            "seed": self.seed,
        }
        if self.same_order:
            facts["same_order"] = True
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=16).digest()

    def check_draws(self, draws: int) -> None:
        """Raises UserError, with both numbers, if `draws` draws would repeat a row uninvited."""
        if not self.repeat and self.rows is not None and draws > self.rows:
            raise UserError(
                f"the schedule draws {draws} rows of {self.source!r}, which has {self.rows}; "
                "give it more data, train fewer steps, or set data.repeat_generic"
            )


def view_rows(view: SourceView, draws: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns int64 [draws]: the row that each draw reads.

    Raises ValueError for a source that is not prepared or a negative draw, and UserError for a
    draw past the end of a source that may not repeat.
    """
    if view.pool_rows is None:
        raise ValueError(f"source {view.source!r} is not prepared: its rows have no numbers yet")
    numbers = np.asarray(draws, np.int64)
    if numbers.size:
        if numbers.min() < 0:
            raise ValueError(f"draws start at 0, got {numbers.min()}")
        view.check_draws(int(numbers.max()) + 1)
    places = view_places(view, numbers)
    if view.budget_rows is None:
        return places
    return permuted(places, view.pool_rows, _key(view, "budget", 0))


def view_places(view: SourceView, draws: np.ndarray) -> np.ndarray:
    """Returns int64 [draws]: the place within the budget that each draw reads.

    For a source without a budget the place is the row. Raises ValueError if the number of rows
    is unknown.
    """
    if view.rows is None:
        raise ValueError(f"source {view.source!r} is not prepared: its number of rows is unknown")
    epochs, indices = np.divmod(np.asarray(draws, np.int64), view.rows)
    if view.same_order:
        epochs = np.zeros_like(epochs)
    places = np.empty_like(indices)
    for epoch in np.unique(epochs).tolist():
        chosen = epochs == epoch
        places[chosen] = permuted(indices[chosen], view.rows, _key(view, "order", epoch))
    return places


def counted_labels(view: SourceView, first: int, count: int, labels: np.ndarray | None) -> int:
    """Labels that count in the loss among draws `first` to `first + count`.

    `labels`, int64 [rows], are those of each row, None where all count.
    """
    if labels is None:
        return count * view.seq_len
    stop = first + count
    blocks = (np.arange(begin, min(begin + _BLOCK, stop)) for begin in range(first, stop, _BLOCK))
    return sum(int(labels[view_rows(view, draws)].sum()) for draws in blocks)


def _key(view: SourceView, purpose: str, epoch: int) -> bytes:
    """A key for one permutation: all purposes, epochs, seeds and sources have unrelated ones."""
    text = json.dumps([purpose, view.fingerprint, view.seq_len, view.seed, epoch])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
