"""Long documents in pieces that tokenize as the whole does, where the tokenizer allows that."""

import json
from collections.abc import Iterator
from itertools import product

import tokenizers

# Characters. Large enough that cutting costs nothing, small enough that a batch of pieces
# spreads over the cores and that the encoder's working memory stays in megabytes.
PIECE_CHARACTERS = 1 << 16
# What works character by character, or across letters that follow each other only.
_LOCAL_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase"}


def text_pieces(text: str, size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Consecutive pieces of about `size` characters that join to the text.

    A cut lies after a letter or digit and before white space: the last such place within
    `size`, or the first one after it. So a piece is longer than `size` where it has no such
    place. What may be cut there is said by `cuts_are_exact`.
    """
    start = 0
    while len(text) - start > size:
        end = _cut(text, start + size // 2, start + size)
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def cuts_are_exact(model: tokenizers.Tokenizer) -> bool:
    """Whether the tokens of `text_pieces` are those of the uncut text.

    They are for byte-level BPE whose word pattern ends a word between a letter or digit and
    white space, as GPT-2's, Llama 3's and Qwen's do: tried on every kind of place. They are not
    where each text gets a mark of its own (Llama 2, Mistral), nor with token patterns that reach
    over such a place.
    """
    described = json.loads(model.to_str())
    steps = _steps(described["normalizer"], "normalizers")
    if not {step["type"] for step in steps} <= _LOCAL_NORMALIZERS:
        return False
    words = _steps(described["pre_tokenizer"], "pretokenizers")
    kinds = [step["type"] for step in words]
    if not kinds or kinds[-1] != "ByteLevel" or words[-1]["add_prefix_space"]:
        return False
    if set(kinds[:-1]) - {"Split", "Digits"} or not any(
        (kind == "Split" and step["behavior"] in ("Isolated", "Removed"))
        or (kind == "ByteLevel" and step["use_regex"])
        for kind, step in zip(kinds, words, strict=True)
    ):
        return False
    reaching = (t for t in described["added_tokens"] if not t["special"] and _reaches(t))
    return not any(reaching) and _words_end_at_cuts(model)


def _cut(text: str, low: int, high: int) -> int:
    """The last good place to cut in (low, high], else the first after it, else the end."""
    for end in range(high, low, -1):
        if text[end].isspace() and text[end - 1].isalnum():
            return end
    for end in range(high + 1, len(text)):
        if text[end].isspace() and text[end - 1].isalnum():
            return end
    return len(text)


def _steps(described: dict | None, name: str) -> list[dict]:
    if described is None:
        return []
    if described["type"] == "Sequence":
        return [step for part in described[name] for step in _steps(part, name)]
    return [described]


def _reaches(token: dict) -> bool:
    """Whether an added token may match on both sides of a cut."""
    text = token["content"]
    inside = any(a.isalnum() and b.isspace() for a, b in zip(text, text[1:], strict=False))
    return inside or (token["rstrip"] and text[-1:].isalnum())


def _words_end_at_cuts(model: tokenizers.Tokenizer) -> bool:
    before = ("a", "Z", "ß", "数", "ا", "9", "٣", "a1", "1234", "'s", " a", "!a", "\na", "-9")
    after = (" ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", " \n ", "\n  ")
    then = ("", "b", "B", "7", "!", "'s", "数", "'")
    words = model.pre_tokenizer
    for left, gap, right in product(before, after, then):
        cut = words.pre_tokenize_str(left) + words.pre_tokenize_str(gap + right)
        if [w for w, _ in words.pre_tokenize_str(left + gap + right)] != [w for w, _ in cut]:
            return False
    return True
