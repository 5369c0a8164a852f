"""Long documents in pieces that tokenize as the whole would."""

from collections.abc import Iterator

# Characters. Large enough that cutting costs nothing, small enough that a batch of pieces
# spreads over the cores and that the encoder's working memory stays in megabytes.
PIECE_CHARACTERS = 1 << 16


def text_pieces(text: str, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Consecutive pieces of at most `size` characters that join to the text.

    A cut lies after a letter or digit and before white space wherever the last half of the
    piece has such a place. There the word splitters of byte-level BPE (GPT-2's and Llama 3's
    patterns) always end a word, so the tokens are those of the uncut text.
    """
    start = 0
    while len(text) - start > size:
        end = _cut(text, start + size // 2, start + size)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _cut(text: str, low: int, high: int) -> int:
    """The last good place to cut in (low, high], else after white space, else `high`."""
    for end in range(high, low, -1):
        if text[end].isspace() and text[end - 1].isalnum():
            return end
    for end in range(high, low, -1):
        if text[end - 1].isspace():
            return end
    return high
