"""Which sequences every step of a run takes: the one place that knows how long its batches are."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from replay_jax.errors import UserError


@dataclass(frozen=True)
class Steps:
    """The steps of a run, in blocks of one batch size.

    Attributes:
        sizes: sequences of each step of every block.
        first_steps: number of the first step of every block, and at last the number of all steps.
        first_sequences: number of the first sequence of every block, and at last of all sequences.
    """

    sizes: tuple[int, ...]
    first_steps: tuple[int, ...]
    first_sequences: tuple[int, ...]

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.first_steps[-1]

    @property
    def changes(self) -> tuple[int, ...]:
        """Numbers of the steps that have another batch size than the step before."""
        return self.first_steps[1:-1]

    def size(self, step: int) -> int:
        """Sequences of a step; past the end those of the last."""
        return self.sizes[self._block(step)]

    def first_sequence(self, step: int) -> int:
        """Number of the first sequence of a step; past the end the number of all sequences."""
        block = self._block(step)
        return self.first_sequences[block] + (step - self.first_steps[block]) * self.sizes[block]

    def step_of(self, sequence: int) -> int:
        """Number of the step that takes a sequence."""
        block = min(bisect_right(self.first_sequences, sequence), len(self.sizes)) - 1
        within = sequence - self.first_sequences[block]
        return self.first_steps[block] + within // self.sizes[block]

    def begins(self, sequence: int) -> bool:
        """Whether a step begins with this sequence."""
        return self.first_sequence(self.step_of(sequence)) == sequence

    def firsts(self) -> np.ndarray:
        """Returns int64 [steps + 1]: `first_sequence` of every step and of the end."""
        lengths = np.diff(self.first_steps)
        return np.concatenate([[0], np.cumsum(np.repeat(self.sizes, lengths))]).astype(np.int64)

    def blocks(self) -> Iterable[tuple[int, int]]:
        """The first step of every block and one past its last."""
        return zip(self.first_steps[:-1], self.first_steps[1:], strict=True)

    def _block(self, step: int) -> int:
        return min(bisect_right(self.first_steps, step), len(self.sizes)) - 1


def steps_of(spans: Iterable[tuple[int, int]]) -> Steps:
    """The steps of a run whose spans have so many sequences, in batches of so many.

    Neighbours of one size are one block, as a step may take sequences of both. Raises UserError
    where the sequences of a block do not fill whole steps.
    """
    blocks: list[tuple[int, int]] = []
    for sequences, size in spans:
        before = blocks.pop() if blocks and blocks[-1][1] == size else (0, size)
        blocks.append((before[0] + sequences, size))
    firsts = tuple(accumulate((sequences for sequences, _ in blocks), initial=0))
    for first, end, (sequences, size) in zip(firsts, firsts[1:], blocks, strict=False):
        if sequences % size and end == firsts[-1]:
            where = f" after {first}" if first else ""
            raise UserError(f"{sequences} sequences{where} do not fill whole steps of {size}")
        if sequences % size:
            near = first + max(1, round(sequences / size)) * size
            raise UserError(
                f"a stage with another batch size must start with a whole step, not at sequence "
                f"{end}, inside a batch of {size}; {near} is the nearest sequence where it can"
            )
    return Steps(
        sizes=tuple(size for _, size in blocks),
        first_steps=tuple(accumulate((n // size for n, size in blocks), initial=0)),
        first_sequences=firsts,
    )
