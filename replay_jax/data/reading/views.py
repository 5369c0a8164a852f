"""Which rows of a source a run may draw, and in which order."""

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from grain.experimental import index_shuffle

from replay_jax.errors import UserError

# Grain's index shuffle enciphers blocks of at least 16 bits and walks until it lands inside the
# range, so one index of a 16-row range cost 1 ms (20 us at 1024 rows, 2 us at 1M; measured with
# grain 0.2.18). Below this size a permutation is a table of at most 512 KiB instead.
_TABLE_ROWS = 1 << 16
_MOST_ROWS = 1 << 31


@dataclass(frozen=True)
class SourceView:
    """The rows of one source that a run may draw, and the order in which it draws them.

    A budget is the first `budget_rows` rows of one fixed permutation of the source, so budgets
    are nested: a larger one contains every row of a smaller one. The budget is cut before the
    rows are shuffled, and draw j takes place j modulo the budget in the order of epoch
    j // budget; each epoch has its own order and contains every row once.

    Attributes:
        source: name of the source.
        fingerprint: identity of the source's tokens, from its store; text that
            no other source has while the data is not prepared.
        seq_len: labels per row.
        pool_rows: rows in the training split, or None while the data is not prepared: then
            schedules and ledgers can be planned, but rows have no numbers yet.
        budget_rows: unique rows that may be drawn, or None for all of them.
        seed: seed of the order.
        repeat: whether rows may be drawn again once all have been.
        budget_seed: seed of the permutation that budgets are cut from. Keep one value in a
            study, so that runs differ in seed without differing in data.

    Raises UserError for an empty source, or a budget that is not positive or exceeds the source.
    """

    source: str
    fingerprint: str
    seq_len: int
    pool_rows: int | None
    budget_rows: int | None
    seed: int
    repeat: bool
    budget_seed: int = 0

    def __post_init__(self) -> None:
        if self.seq_len < 1:
            raise UserError(f"seq_len {self.seq_len} must be at least 1")
        if self.pool_rows is not None and not 1 <= self.pool_rows < _MOST_ROWS:
            raise UserError(
                f"source {self.source!r} has {self.pool_rows} training rows of "
                f"{self.seq_len + 1} tokens; it needs between 1 and {_MOST_ROWS - 1}, so change "
                "its size or seq_len"
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
            "order": 1,  # version of the order below; a change of it must change every digest
            "fingerprint": self.fingerprint,
            "seq_len": self.seq_len,
            "pool_rows": self.pool_rows,
            "budget": None if self.budget_rows is None else [self.budget_rows, self.budget_seed],
            "seed": self.seed,
        }
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=16).digest()

    def read(self, draws: np.ndarray) -> np.ndarray:
        """Returns int64 [draws]: `view_rows` of this view."""
        return view_rows(self, draws)

    def places(self, draws: np.ndarray) -> np.ndarray:
        """Returns int64 [draws]: `view_places` of this view."""
        return view_places(self, draws)

    def check_draws(self, draws: int) -> None:
        """Raises UserError, with both numbers, if `draws` draws would repeat a row uninvited."""
        if not self.repeat and self.rows is not None and draws > self.rows:
            raise UserError(
                f"the schedule draws {draws} rows of {self.source!r}, which has {self.rows}; "
                "give it more data, train fewer steps, or set data.repeat_generic"
            )


def view_rows(view: SourceView, draws: Iterable[int] | np.ndarray) -> np.ndarray:
    """Returns int64 [draws]: the row that each draw reads.

    `view_dataset` reads the same rows. Raises ValueError for a source that is not prepared or a
    negative draw, and UserError for a draw past the end of a source that may not repeat.
    """
    numbers = np.asarray(draws if isinstance(draws, np.ndarray) else list(draws), np.int64)
    rows = _prepared_rows(view)
    if numbers.size == 0:
        return np.zeros(0, np.int64)
    if numbers.min() < 0:
        raise ValueError(f"draws start at 0, got {numbers.min()}")
    view.check_draws(int(numbers.max()) + 1)
    places = view_places(view, numbers)
    if view.budget_rows is None:
        return places
    assert view.pool_rows is not None
    return _budget(_key(view, "budget", view.budget_seed), view.pool_rows, rows)[places]


def view_places(view: SourceView, draws: np.ndarray) -> np.ndarray:
    """Returns int64 [draws]: the place within the budget that each draw reads.

    For a source without a budget the place is the row. Raises ValueError if the number of rows
    is unknown.
    """
    rows = view.rows
    if rows is None:
        raise ValueError(f"source {view.source!r} is not prepared: its number of rows is unknown")
    key = _key(view, "order", view.seed)
    epochs, indices = np.divmod(np.asarray(draws, np.int64), rows)
    places = np.empty(len(indices), np.int64)
    for epoch in np.unique(epochs).tolist():
        chosen = epochs == epoch
        places[chosen] = _permuted(key, epoch, rows, indices[chosen])
    return places


def view_dataset(view: SourceView, row_source: Sequence[Any]) -> grain.MapDataset:
    """Returns the Grain dataset whose element j is the row that draw j of the view reads.

    `row_source` is any random-access source with one element per training row. The dataset may
    be indexed past its length, by as many draws as the view allows. Raises ValueError if
    `row_source` does not have the view's number of rows.
    """
    _prepared_rows(view)
    if len(row_source) != view.pool_rows:
        raise ValueError(
            f"the view of {view.source!r} has {view.pool_rows} rows, its source {len(row_source)}"
        )
    return grain.MapDataset.select_from_datasets(
        [grain.MapDataset.source(row_source)], ViewOrder(view)
    )


class ViewOrder(grain.transforms.DatasetSelectionMap):
    """Grain's selection map from a draw to (0, row): the order of a view, without any state."""

    def __init__(self, view: SourceView) -> None:
        self._view = view
        self._rows = _prepared_rows(view)
        self._order = _key(view, "order", view.seed)
        self._cut = _key(view, "budget", view.budget_seed)

    def __len__(self) -> int:
        """Draws in one epoch."""
        return self._rows

    def __getitem__(self, index: int) -> tuple[int, int]:
        if index < 0:
            raise IndexError(f"draws start at 0, got {index}")
        epoch, place = divmod(index, self._rows)
        if epoch:
            self._view.check_draws(index + 1)
        place = _permuted_one(self._order, epoch, self._rows, place)
        if self._view.budget_rows is None:
            return 0, place
        assert self._view.pool_rows is not None
        return 0, int(_budget(self._cut, self._view.pool_rows, self._rows)[place])

    def __repr__(self) -> str:
        return f"ViewOrder({self._view!r})"


def _prepared_rows(view: SourceView) -> int:
    if view.pool_rows is None or view.rows is None:
        raise ValueError(f"source {view.source!r} is not prepared: its rows have no numbers yet")
    return view.rows


def _key(view: SourceView, purpose: str, seed: int) -> bytes:
    """A 16-byte key for one permutation: seeds 0 and 1 give unrelated orders, and so do sources.

    Grain adds the epoch to the seed, so with plain seeds epoch 1 of seed 0 would be epoch 0 of
    seed 1.
    """
    text = json.dumps([purpose, view.fingerprint, view.seq_len, seed])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _permuted(key: bytes, epoch: int, rows: int, indices: np.ndarray) -> np.ndarray:
    """Places of `indices` in the permutation of `rows` that a key and an epoch name."""
    if rows <= _TABLE_ROWS:
        return _table(key, epoch, rows)[indices]
    seed = _cipher_seed(key, epoch)
    return np.array([index_shuffle(i, rows - 1, seed, 4) for i in indices.tolist()], np.int64)


def _permuted_one(key: bytes, epoch: int, rows: int, index: int) -> int:
    """`_permuted` for one index, without the cost of arrays."""
    if rows <= _TABLE_ROWS:
        return int(_table(key, epoch, rows)[index])
    return index_shuffle(index, rows - 1, _cipher_seed(key, epoch), 4)


@functools.lru_cache(maxsize=64)
def _cipher_seed(key: bytes, epoch: int) -> int:
    mixed = hashlib.blake2b(epoch.to_bytes(8, "little"), key=key, digest_size=4).digest()
    return int.from_bytes(mixed, "little")


@functools.lru_cache(maxsize=64)
def _table(key: bytes, epoch: int, rows: int) -> np.ndarray:
    """A whole permutation: the order of `rows` raw Philox words (a stream fixed by NumPy)."""
    philox = np.random.Philox(key=int.from_bytes(key, "little"), counter=[0, 0, epoch, 0])
    table = np.argsort(philox.random_raw(rows), kind="stable")
    table.flags.writeable = False
    return table


@functools.lru_cache(maxsize=16)
def _budget(key: bytes, pool_rows: int, budget_rows: int) -> np.ndarray:
    """Rows of a budget: the first `budget_rows` of the pool's permutation."""
    rows = _permuted(key, 0, pool_rows, np.arange(budget_rows))
    rows.flags.writeable = False
    return rows
