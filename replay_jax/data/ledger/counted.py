"""What a run really consumed, counted from its batches and not from its plan."""

import dataclasses
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.data.reading.batch_rows import ALL_ROWS, BatchRows, row_blocks, row_numbers
from replay_jax.data.reading.views import SourceView

CHAIN_START = bytes(16)  # the link before the first step


@dataclass(frozen=True)
class Count:
    """The rows of one source between two cuts of a span.

    Attributes:
        start: global number of the first sequence of the interval.
        stop: one past its last sequence.
        source: name of the source.
        sequences: rows of it that were consumed there.
        first: (sequence, row) of its first one.
        last: (sequence, row) of its last one.
        rows: (row, times) for a source with a budget, in the order of the rows; None otherwise.
        supervised: labels that counted in the loss; None where no source says which do.
    """

    start: int
    stop: int
    source: str
    sequences: int
    first: tuple[int, int]
    last: tuple[int, int]
    rows: tuple[tuple[int, int], ...] | None
    supervised: int | None = None


@dataclass(frozen=True)
class Span:
    """What one host consumed in the steps from `start_step` up to `stop_step`.

    Attributes:
        start_step: first step.
        stop_step: one past the last step.
        batch_size: sequences of a global batch.
        batch_rows: which rows of every batch the host read, as blocks (first, one past the last).
        digest: hash chain over (source fingerprint, row) of every sequence in order, so equal
            digests mean equal rows at equal places.
        tokens: hash chain over the checksum of every batch's tokens (`batch_checksum`), or None
            where the version that counted did not look at tokens.
        counts: what each source gave between two cuts.
    """

    start_step: int
    stop_step: int
    batch_size: int
    batch_rows: tuple[tuple[int, int], ...]
    digest: str
    tokens: str | None
    counts: tuple[Count, ...]

    def rows_of_batch(self) -> np.ndarray:
        """Returns int64 [rows]: numbers of the rows of every batch that were read, ascending."""
        return np.concatenate([np.arange(*block) for block in self.batch_rows])

    def to_json(self) -> dict[str, Any]:
        """Returns the span as plain JSON values."""
        values = dataclasses.asdict(self)
        for count in values["counts"]:
            if count["supervised"] is None:  # as spans were written before there was such a field
                del count["supervised"]
        return values

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Span":
        """Returns the span that `to_json` wrote; raises ValueError if it is none."""
        try:
            counts = tuple(
                Count(
                    **{
                        **count,
                        "first": tuple(count["first"]),
                        "last": tuple(count["last"]),
                        "rows": None
                        if count["rows"] is None
                        else tuple((row, times) for row, times in count["rows"]),
                    }
                )
                for count in values["counts"]
            )
            blocks = tuple((first, stop) for first, stop in values["batch_rows"])
            # Spans of older versions have no chain of tokens.
            return Span(**{"tokens": None, **values, "batch_rows": blocks, "counts": counts})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a span of realised counts: {error}") from error


class RealisedCounter:
    """Counts the batches of one host as they are consumed, step after step.

    The counts depend on nothing but the batches' own arrays. `cuts` are global
    sequence numbers (such as the stage starts of all runs that share the steps) at which counts
    are kept apart, so that stages can be told from each other later, also within a batch.
    """

    def __init__(
        self,
        *,
        source_names: Sequence[str],
        views: Mapping[str, SourceView],
        batch_size: int,
        start_step: int,
        first_sequence: int,
        cuts: Iterable[int] = (),
        rows: BatchRows = ALL_ROWS,
    ) -> None:
        """Starts at `start_step`, whose first sequence that is; `rows` of a batch are this host's.

        All batches have one size; those of another are for another counter.

        Raises ValueError unless the rows ascend.
        """
        self._names = tuple(source_names)
        self._budgeted = [views[name].budget_rows is not None for name in self._names]
        self._tags = source_tags(source_names, views)
        self._batch_size, self._rows = batch_size, row_numbers(rows, batch_size)
        self._blocks = row_blocks(self._rows)
        self._start, self._step = start_step, start_step
        self._next = first_sequence  # of the next step
        self._chain, self._tokens = CHAIN_START, CHAIN_START
        inner = sorted(cut for cut in set(cuts) if cut > first_sequence)
        self._cuts = np.array([first_sequence, *inner], np.int64)
        self._tallies: dict[tuple[int, str], _Tally] = {}

    def add(
        self,
        step: int,
        *,
        source: np.ndarray,
        row: np.ndarray,
        tokens: bytes,
        supervised: np.ndarray | None = None,
    ) -> None:
        """Counts one batch: `source` [B] numbers of sources and `row` [B] row ids of this host.

        `tokens` is the `batch_checksum` of its tokens, `supervised` [B] how many labels of each
        row count in the loss, where a source says so (`supervised_labels`).

        Raises ValueError if a step is left out or repeated, or the batch has another size.
        """
        if step != self._step:
            raise ValueError(f"step {step} was counted where step {self._step} comes next")
        count = len(self._rows)
        if source.shape != (count,) or row.shape != (count,):
            raise ValueError(f"a batch has {count} rows, not {source.shape} and {row.shape}")
        sequences = self._next + self._rows
        pieces = np.searchsorted(self._cuts, sequences, side="right") - 1
        for piece in np.unique(pieces).tolist():
            for number in np.unique(source[pieces == piece]).tolist():
                chosen = np.flatnonzero((pieces == piece) & (source == number))
                key = (piece, self._names[number])
                if key not in self._tallies:
                    self._tallies[key] = _Tally(budgeted=self._budgeted[number])
                labels = None if supervised is None else int(supervised[chosen].sum())
                self._tallies[key].add(sequences[chosen], row[chosen], labels)
        self._chain = chained(self._chain, self._tags[source], row)
        self._tokens = tokens_chained(self._tokens, tokens)
        self._step, self._next = self._step + 1, self._next + self._batch_size

    def span(self) -> Span:
        """Returns everything counted so far."""
        ends = [*self._cuts[1:].tolist(), self._next]
        counted = tuple(
            tally.count(
                start=int(self._cuts[piece]),
                stop=min(ends[piece], self._next),
                source=source,
            )
            for (piece, source), tally in sorted(self._tallies.items())
        )
        return Span(
            start_step=self._start,
            stop_step=self._step,
            batch_size=self._batch_size,
            batch_rows=self._blocks,
            digest=self._chain.hex(),
            tokens=self._tokens.hex(),
            counts=counted,
        )


class _Tally:
    """The running count of one source in one interval."""

    def __init__(self, *, budgeted: bool) -> None:
        self._sequences = 0
        self._ends: list[tuple[int, int]] = []
        self._rows: Counter[int] | None = Counter() if budgeted else None
        self._supervised: int | None = None

    def add(self, sequences: np.ndarray, rows: np.ndarray, supervised: int | None) -> None:
        self._sequences += len(rows)
        if supervised is not None:
            self._supervised = (self._supervised or 0) + supervised
        first = (int(sequences[0]), int(rows[0]))
        self._ends = [*(self._ends[:1] or [first]), (int(sequences[-1]), int(rows[-1]))]
        if self._rows is not None:
            self._rows.update(rows.tolist())

    def count(self, *, start: int, stop: int, source: str) -> Count:
        rows = None if self._rows is None else tuple(sorted(self._rows.items()))
        ends = self._ends[0], self._ends[-1]
        return Count(start, stop, source, self._sequences, *ends, rows, self._supervised)


def source_tags(source_names: Sequence[str], views: Mapping[str, SourceView]) -> np.ndarray:
    """Returns uint64 [sources]: what stands for each source in digests.

    It comes from the source's data and not from its number, so runs may number sources freely.
    """
    texts = [f"{views[name].fingerprint}/{views[name].seq_len}" for name in source_names]
    hashes = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(hashes), "<u8")


def chained(chain: bytes, tags: np.ndarray, rows: np.ndarray) -> bytes:
    """Returns the next link of a hash chain: the last link, and one step's tags and rows."""
    state = hashlib.blake2b(chain, digest_size=16)
    state.update(np.ascontiguousarray(tags).astype("<u8", copy=False).tobytes())
    state.update(np.ascontiguousarray(rows).astype("<i8", copy=False).tobytes())
    return state.digest()


def batch_checksum(batch: Mapping[str, np.ndarray]) -> bytes:
    """Returns 8 bytes: the CRC-32 of a batch's `inputs` and of its `labels`, int32 [B, L] each.

    With a `loss_mask`, bool [B, L], 12: its own after theirs.

    What is looked for is damage and not forgery, and CRC-32 is the fastest that every Python has.
    """
    arrays = [np.ascontiguousarray(batch[name], "<i4") for name in ("inputs", "labels")]
    if "loss_mask" in batch:
        arrays.append(np.ascontiguousarray(batch["loss_mask"], np.uint8))
    return b"".join(zlib.crc32(array.data).to_bytes(4, "little") for array in arrays)


def supervised_labels(batch: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Returns int64 [B]: labels of each row that count; None where no source says which do."""
    if "loss_mask" not in batch:
        return None
    found: np.ndarray = batch["loss_mask"].sum(axis=1, dtype=np.int64)
    return found


def tokens_chained(chain: bytes, checksum: bytes) -> bytes:
    """Returns the next link of the chain of tokens: the last link, and one batch's checksum."""
    return hashlib.blake2b(chain + checksum, digest_size=16).digest()
