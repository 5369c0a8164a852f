"""Texts made to fit a number of tokens: the longest parts lose first, and in their middles.

What the WebLINX paper calls strategic truncation (arXiv 2402.05930, appendix): parts that are short
anyway stay whole, the others come down to one length. The same text, budget and tokenizer always
give the same result, which never has more tokens than the budget.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from replay_jax.data.conversations.token_mask import encoded_with_offsets
from replay_jax.data.tokens.tokenizer import Tokenizer

ELLIPSIS = "..."
# Cut parts may have more tokens when they stand together: tried again with so many fewer.
_ATTEMPTS = 5


class Part(NamedTuple):
    """A piece of a text; only `free` ones are cut, while that is enough."""

    text: str
    free: bool


@dataclass(frozen=True)
class Shortener:
    """Shortens by the tokens of a tokenizer."""

    tokenizer: Tokenizer

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._ends([text])[0])

    def joined(self, parts: Sequence[Part], budget: int) -> str:
        """The parts one after another, in at most `budget` tokens.

        Where the parts that are not free have more alone, the whole loses its middle.
        """
        text = "".join(part.text for part in parts)
        over = self.length(text) - budget
        if over <= 0:
            return text
        free = [part.text for part in parts if part.free]
        ends = self._ends(free)
        lengths = [len(each) for each in ends]
        wanted = sum(lengths)
        for _ in range(_ATTEMPTS):
            wanted = max(0, wanted - over)
            most = reduced(lengths, wanted)
            cut = iter(map(self._cut, free, ends, most))
            text = "".join(next(cut) if part.free else part.text for part in parts)
            over = self.length(text) - budget
            if over <= 0:
                return text
        return self.cut(text, budget)

    def cut(self, text: str, most: int) -> str:
        """A text in at most `most` tokens, the tokens of its middle replaced by an ellipsis."""
        return self._cut(text, self._ends([text])[0], most)

    def _cut(self, text: str, ends: np.ndarray, most: int) -> str:
        if len(ends) <= most:
            return text
        keep = most - self.length(ELLIPSIS)
        while keep > 0:
            tail = keep // 2
            head = int(ends[keep - tail - 1])
            left = text[int(ends[len(ends) - tail - 1]) :] if tail else ""
            found = text[:head] + ELLIPSIS + left
            over = self.length(found) - most
            if over <= 0:
                return found
            keep -= over
        return ELLIPSIS if 0 < self.length(ELLIPSIS) <= most else ""

    def _ends(self, texts: Sequence[str]) -> list[np.ndarray]:
        """For each text the character at which each of its tokens ends, int64 [tokens]."""
        found = encoded_with_offsets(self.tokenizer.model, texts, rendered=False)
        return [_token_ends(each) for each in found]


def reduced(lengths: Sequence[int], total: int) -> list[int]:
    """Lengths that add up to at most `total`, the longest brought down to one length.

    What is left over by rounding goes to the longest, the last of them first.
    """
    if sum(lengths) <= total:
        return list(lengths)
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    found, left = list(lengths), max(0, total)
    for number, place in enumerate(order):
        level, rest = divmod(left, len(order) - number)
        if lengths[place] > level:
            for later, other in enumerate(reversed(order[number:])):
                found[other] = level + (later < rest)
            break
        left -= lengths[place]
    return found


def _token_ends(encoded: Any) -> np.ndarray:
    if isinstance(encoded, bytes):  # a token a byte: a character ends with its last byte
        starts = np.array([byte & 0xC0 != 0x80 for byte in encoded], bool)
        return np.cumsum(starts)
    return np.array([end for _, end in encoded.offsets], np.int64)
