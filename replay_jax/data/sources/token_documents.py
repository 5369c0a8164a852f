"""Documents that are token ids already, with their split decided by the text that these stand for.

So a document is on the same side whether it comes as text or as tokens, and exact copies are found
between the two.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from replay_jax.data.sources.documents import document_hash, role_borders
from replay_jax.data.sources.parts import Part
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.token_files import TokenFile
from replay_jax.errors import UserError

_BLOCK = 1 << 22  # ids


@dataclass(frozen=True)
class Marks:
    """What the tokenizer that made a file says of its ids.

    bos_id: begins every document; None for none. eos_id: ends every document.
    text: the UTF-8 bytes that ids stand for.
    """

    vocab_size: int
    bos_id: int | None
    eos_id: int
    text: Callable[[np.ndarray], bytes]


@dataclass(frozen=True, slots=True)
class TokenDocument:
    """One document of a file of ids.

    start, stop: where its ids lie, without those that begin and end a document.
    whole: whether the latter stand around it, so that it can be read where it lies.
    bytes: of its text, 0 where there is nothing to learn from. hashed: `document_hash` of the text.
    """

    start: int
    stop: int
    whole: bool
    bytes: int
    hashed: int
    held_out: bool


def token_documents(
    config: SourceConfig, part: Part, file: TokenFile, marks: Marks
) -> Iterator[TokenDocument]:
    """Every document of a file in order; empty and unwanted ones come without bytes.

    Raises UserError for an id that is none of the tokenizer.
    """
    held_out, end = role_borders(config, part.role)
    checked = 0
    for first, last in file.borders(marks.eos_id):
        while checked < last:
            _check_ids(file, checked, marks.vocab_size)
            checked += _BLOCK
        ids = file.ids[first:last]
        length, before = _trimmed(ids, marks)
        start, stop = first + before, first + length
        text = marks.text(ids[before:length])
        hashed = document_hash(text) if text and not text.isspace() else end
        if hashed >= end:
            yield TokenDocument(start, stop, False, 0, 0, False)
            continue
        whole = stop < last and bool(before) == (marks.bos_id is not None)
        yield TokenDocument(start, stop, whole, len(text), hashed, hashed < held_out)


def _trimmed(ids: np.ndarray, marks: Marks) -> tuple[int, int]:
    """Where the end-of-text ids after a document begin, and how many ids begin it (0 or 1)."""
    length = len(ids)
    while length and ids[length - 1] == marks.eos_id:
        length -= 1
    begun = marks.bos_id is not None and length > 0 and ids[0] == marks.bos_id
    return length, int(begun)


def _check_ids(file: TokenFile, start: int, vocab_size: int) -> None:
    ids = file.ids[start : start + _BLOCK]
    wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    if len(wrong):
        raise UserError(
            f"{file.path}: token {start + wrong[0]} is {ids[wrong[0]]}, and the vocabulary has ids "
            f"0 to {vocab_size - 1}; set data.tokenizer to the one that made the file"
        )
