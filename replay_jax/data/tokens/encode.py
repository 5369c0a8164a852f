"""Turn documents into tokens: read, encode and write at the same time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import tokenizers

from replay_jax.data.conversations.marked import Marked, Span
from replay_jax.data.sources.documents import Document
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.pieces import PIECE_CHARACTERS, text_pieces
from replay_jax.data.tokens.tokenizer import Tokenizer, token_ids
from replay_jax.data.tokens.writer import ShardWriter
from replay_jax.errors import UserError


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a document; `last` closes it."""

    text: str
    document: Document
    last: bool


def tokenize(
    documents: Iterable[Document],
    *,
    tokenizer: Tokenizer,
    writer: ShardWriter,
    threads: int,
    report: Callable[[], None],
    marking: SourceConfig | None = None,
) -> None:
    """Write all documents; those of a source that is `masked`, `marking`, with what counts.

    Reading and writing run in a thread each; the encoder uses `threads` cores and holds no
    Python lock, so the three overlap. `report` is called after every batch.
    """
    cut = marking is None and tokenizer.cuts_are_exact
    batches = piece_batches(documents, threads=threads, cut=cut)

    def encode(batch: Sequence[Piece]) -> Sequence[object]:
        texts = [piece.text for piece in batch]
        if marking is None:
            return tokenizer.encode_batch(texts)
        return encoded_with_offsets(tokenizer, texts, rendered=marking.kind == "conversations")

    def write(batch: Sequence[Piece], encoded: Sequence[object]) -> None:
        if marking is None:
            writer.append([(piece.document, piece.last) for piece in batch], token_ids(encoded))
            return
        found = [
            marked_tokens(piece.document, ids, each, tokenizer, marking)
            for piece, ids, each in zip(batch, token_ids(encoded), encoded, strict=True)
        ]
        writer.append_marked(found)

    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        coming = reading.submit(next, batches, None)
        written: Future[None] | None = None
        while (batch := coming.result()) is not None:
            coming = reading.submit(next, batches, None)
            encoded = encode(batch)
            if written is not None:
                written.result()
                report()
            written = writing.submit(write, batch, encoded)
        if written is not None:
            written.result()
    report()


def piece_batches(
    documents: Iterable[Document], *, threads: int, cut: bool
) -> Iterator[list[Piece]]:
    """Pieces of documents in order (whole ones without `cut`), with work for every thread."""
    limit = 8 * PIECE_CHARACTERS * max(2, threads)
    batch: list[Piece] = []
    size = 0
    for document in documents:
        texts = [document.text]
        if cut and len(document.text) > PIECE_CHARACTERS:
            texts = list(text_pieces(document.text))
        for number, text in enumerate(texts, start=1):
            batch.append(Piece(text, document, number == len(texts)))
            # A document costs something however short it is.
            size += len(text) + 64
            if size >= limit:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch


def encoded_with_offsets(
    tokenizer: Tokenizer, texts: Sequence[str], *, rendered: bool
) -> Sequence[object]:
    """Encode texts on all cores, each token with the characters that it stands for.

    In `rendered` texts the special tokens are those that are spelt.
    """
    if tokenizer.model is None:
        return [text.encode() for text in texts]
    model = _offset_model(tokenizer.model, rendered)
    return model.encode_batch(texts, add_special_tokens=False)


@lru_cache(2)
def _offset_model(model: tokenizers.Tokenizer, rendered: bool) -> tokenizers.Tokenizer:
    found = tokenizers.Tokenizer.from_str(model.to_str())
    found.encode_special_tokens = not rendered
    # It adds no tokens here, but would trim white space off what tokens stand for.
    found.post_processor = None
    return found


def marked_tokens(
    document: Document,
    ids: np.ndarray,
    encoded: object,
    tokenizer: Tokenizer,
    source: SourceConfig,
) -> tuple[Document, np.ndarray, np.ndarray]:
    """A document with all its tokens, and for each whether it counts, uint8.

    A token counts if any of its characters does; the token that ends a document does if the
    last character does; the first never does, as nothing comes before it. A document that
    is too long, or of which nothing would count, comes as a bad one without tokens.

    Raises UserError for a bad document where the source refuses them.
    """
    marked = document.marked
    if marked is None:  # empty or bad
        return document, ids[:0], np.zeros(0, np.uint8)
    counts = token_mask(encoded, len(ids), marked)
    if not marked.rendered:
        begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
        ends = int(marked.spans[-1][1] == len(marked.text))
        ids = np.concatenate([begin, ids, [tokenizer.eos_id]]).astype(np.uint32)
        counts = np.concatenate([[0] * len(begin), counts, [ends]]).astype(np.uint8)
    assert source.max_tokens is not None
    wrong, length = "", len(ids)
    if length > source.max_tokens:
        if not source.truncate:
            wrong = (
                f"{length} tokens, more than max_tokens {source.max_tokens}: raise it with "
                "training.seq_len, or set truncate"
            )
        ids, counts = ids[: source.max_tokens], counts[: source.max_tokens]
    counts[:1] = 0
    if not wrong and not counts.any():
        cut = f" within max_tokens {source.max_tokens} of {length}" if length > len(ids) else ""
        wrong = f"no token counts in the loss{cut}"
    if not wrong:
        return document, ids, counts
    bad = f"{marked.where}: {wrong}"
    if source.bad_documents == "refuse":
        raise UserError(bad)
    return Document("", 0, 0, False, bad), ids[:0], counts[:0]


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
