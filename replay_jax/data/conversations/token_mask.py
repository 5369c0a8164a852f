"""Which tokens of a text stand for characters that count."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tokenizers

from replay_jax.data.conversations.marked import Marked, Span


def encoded_with_offsets(
    model: tokenizers.Tokenizer | None, texts: Sequence[str], *, rendered: bool
) -> Sequence[object]:
    """Encode texts on all cores, each token with the characters that it stands for.

    In `rendered` texts the special tokens are those that are spelt. Without a model the tokens are
    bytes.
    """
    if model is None:
        return [text.encode() for text in texts]
    return _offset_model(model, rendered).encode_batch(texts, add_special_tokens=False)


@lru_cache(2)
def _offset_model(model: tokenizers.Tokenizer, rendered: bool) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer.from_str(model.to_str())
    found.encode_special_tokens = not rendered
    # It adds no tokens here, but would trim white space off what tokens stand for.
    found.post_processor = None
    return found


def token_mask(encoded: object, tokens: int, marked: Marked) -> np.ndarray:
    """uint8 [tokens]: 1 where a token stands for a character of a span."""
    mask = np.zeros(tokens, np.uint8)
    for start, stop in marked.spans:
        if isinstance(encoded, bytes):
            before = len(marked.text[:start].encode())
            mask[before : before + len(marked.text[start:stop].encode())] = 1
        else:
            first, last = _tokens_of(encoded, tokens, (start, stop), len(marked.text))
            mask[first:last] = 1
    return mask


def _tokens_of(encoded: Any, tokens: int, span: Span, length: int) -> Span:
    """The first token that reaches into a span of characters, and the one past the last."""
    start, stop = span
    first = _token_at(encoded, start, length)
    last = _token_at(encoded, stop, length)
    if last is not None and encoded.token_to_chars(last)[0] < stop:
        last += 1
    return tokens if first is None else first, tokens if last is None else last


def _token_at(encoded: Any, character: int, length: int) -> int | None:
    """The first token of a character, or of the next that has one: normalizers drop some."""
    for place in range(character, length):
        token: int | None = encoded.char_to_token(place)
        if token is not None:
            return token
    return None
