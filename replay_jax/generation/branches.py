"""Requests for the likelihood of continuations, packed so that what they share is read once.

A row is a stem and branches: what several requests begin with, and what each goes on with. The
stem is read as any text; every branch then sees the stem and itself. What is shorter than what goes
on from it is read again for each instead, as the one token is that texts without a context follow:
branches share a square of attention, of which all but their own is wasted. Free of JAX.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from replay_jax.generation.lengths import compiled_length

# Branches of a row have no more tokens than this together, or a longest one's: their attention
# is a whole square.
MOST_BRANCHED = 512
NO_BRANCH = -1


@dataclass(frozen=True)
class Request:
    """How likely `continuation` is after `context`: token ids, one at least of each."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """Which label is looked up where: `places` count the stem and then the branches."""

    request: int
    places: tuple[int, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One stem, its branches behind each other, and what is read of them."""

    stem: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    reads: tuple[Read, ...]

    @property
    def branched(self) -> int:
        """Tokens of all branches."""
        return sum(map(len, self.branches))

    @property
    def labels(self) -> int:
        """How many labels are looked up."""
        return sum(len(read.labels) for read in self.reads)

    @property
    def compiled(self) -> tuple[int, int, int]:
        """Lengths of the program that reads it: of stem, branches and labels."""
        return (
            compiled_length(len(self.stem)),
            compiled_length(self.branched),
            compiled_length(self.labels),
        )


def packed(requests: Sequence[Request], *, positions: int) -> list[Row]:
    """Rows of all requests, those of alike lengths together, the longest first.

    What has more tokens than a model of so many `positions` reads loses the beginning of its
    context, as in lm_eval; a continuation has no more than these.
    """
    shared: dict[tuple[int, ...], list[int]] = {}
    for number, request in enumerate(requests):
        room = positions + 1 - len(request.continuation)
        shared.setdefault(request.context[-room:], []).append(number)
    rows: list[Row] = []
    for stem, numbers in shared.items():
        members = [(number, requests[number].continuation) for number in numbers]
        if len(stem) * len(members) < sum(len(continuation) for _, continuation in members):
            rows += [row for member in members for row in _rows(stem, [member])]
        else:
            rows += _rows(stem, members)
    return sorted(rows, key=lambda row: row.compiled, reverse=True)


def _rows(stem: tuple[int, ...], members: list[tuple[int, tuple[int, ...]]]) -> Iterator[Row]:
    if len(members) == 1:
        ((number, continuation),) = members
        first = len(stem) - 1
        places = tuple(range(first, first + len(continuation)))
        yield Row(stem + continuation[:-1], (), (Read(number, places, continuation),))
        return
    branches: list[tuple[int, ...]] = []
    reads: list[Read] = []
    size = 0
    for number, continuation in members:
        branch = continuation[:-1]
        if reads and size + len(branch) > MOST_BRANCHED:
            yield Row(stem, tuple(branches), tuple(reads))
            branches, reads, size = [], [], 0
        # A branch's first label is read where the stem ends, the others within the branch.
        start = len(stem) + size
        places = (len(stem) - 1, *range(start, start + len(branch)))
        reads.append(Read(number, places, continuation))
        branches.append(branch)
        size += len(branch)
    yield Row(stem, tuple(branches), tuple(reads))


@dataclass(frozen=True, eq=False)
class RowBatch:
    """Arrays of some rows, padded on the right; all int32.

    Attributes:
        stem: [B, S] tokens. stem_length: [B].
        branch: [B, T] tokens. number: [B, T], of the branch in its row, NO_BRANCH for padding.
        offset: [B, T], of the token in its branch.
        place: [B, R] and label: [B, R], where which label is looked up: of the stem's S places and
            then the branches'; padding looks up token 0 at place 0.
    """

    stem: np.ndarray
    stem_length: np.ndarray
    branch: np.ndarray
    number: np.ndarray
    offset: np.ndarray
    place: np.ndarray
    label: np.ndarray


def least_lengths(rows: Sequence[Row]) -> tuple[int, ...]:
    """The least compiled lengths that hold some rows: of stem, branches and labels."""
    return tuple(map(max, *(row.compiled for row in rows))) if len(rows) > 1 else rows[0].compiled


def row_batch(rows: Sequence[Row], *, batch_size: int, lengths: Sequence[int]) -> RowBatch:
    """The arrays of at most `batch_size` rows, of lengths that hold them."""
    stems, branched, labels = lengths
    zeros = [np.zeros((batch_size, length), np.int32) for length in (stems, branched, labels)]
    stem, (branch, place) = zeros[0], zeros[1:]
    number, offset, label = np.full_like(branch, NO_BRANCH), branch.copy(), place.copy()
    stem_length = np.ones(batch_size, np.int32)
    for at, row in enumerate(rows):
        own = len(row.stem)
        stem[at, :own], stem_length[at] = row.stem, own
        start = 0
        for index, tokens in enumerate(row.branches):
            end = start + len(tokens)
            branch[at, start:end], number[at, start:end] = tokens, index
            offset[at, start:end] = np.arange(len(tokens))
            start = end
        wanted = np.array([each for read in row.reads for each in read.places], np.int32)
        # Places behind the stem move with its padding.
        place[at, : len(wanted)] = np.where(wanted < own, wanted, wanted - own + stems)
        label[at, : len(wanted)] = [each for read in row.reads for each in read.labels]
    return RowBatch(stem, stem_length, branch, number, offset, place, label)
