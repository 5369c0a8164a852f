"""Train a byte-level BPE on a bounded, order-free sample of the training documents."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from replay_jax.data.sources.documents import document_hash
from replay_jax.data.tokens.pieces import text_pieces
from replay_jax.data.tokens.tokenizer import END_OF_TEXT, Tokenizer, wrap_trained
from replay_jax.errors import UserError


@dataclass(frozen=True)
class Sample:
    """Pieces of documents by content hash, all of those below `bound` that were read."""

    pieces: dict[int, str]
    bound: int

    def texts(self) -> list[str]:
        """The pieces in the order of their hashes."""
        return [self.pieces[hashed] for hashed in sorted(self.pieces)]


WHOLE = Sample({}, 2**64)


def sample_texts(documents: Iterable[str], limit: int, *, bound: int = WHOLE.bound) -> Sample:
    """Pieces of documents in the order of their content hashes, up to the first that does not
    fit into `limit` bytes; none whose hash reaches `bound`.

    One pass in bounded memory; the choice does not depend on the documents' order, and a
    corpus within the limit is taken whole. Exact copies of a piece count once.
    """
    hashed_pieces = (
        (document_hash(piece.encode()), piece)
        for document in documents
        for piece in text_pieces(document)
    )
    return _smallest(hashed_pieces, limit, bound)


def merged(one: Sample, other: Sample, limit: int) -> Sample:
    """What `sample_texts` gives for the documents of both."""
    pieces = chain(one.pieces.items(), other.pieces.items())
    return _smallest(pieces, limit, min(one.bound, other.bound))


def _smallest(hashed_pieces: Iterable[tuple[int, str]], limit: int, bound: int) -> Sample:
    chosen: dict[int, str] = {}
    largest_first: list[int] = []
    total = 0
    for hashed, piece in hashed_pieces:
        if hashed >= bound or hashed in chosen:
            continue
        chosen[hashed] = piece
        heapq.heappush(largest_first, -hashed)
        total += len(piece.encode())
        while total > limit and len(chosen) > 1:
            # What does not fit bounds all that follows, however small.
            bound = -heapq.heappop(largest_first)
            total -= len(chosen.pop(bound).encode())
    return Sample(chosen, bound)


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE (GPT-2's word pattern) with exactly `vocab_size` tokens.

    The same texts give the same tokenizer, in any order. Raises UserError where the texts
    are too small to fill the vocabulary, with the size they reach.
    """
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(_batches(texts), trainer)
    reached = model.get_vocab_size(with_added_tokens=True)
    if reached < vocab_size:
        raise UserError(
            f"the training text only yields {reached} of the {vocab_size} tokens asked for; "
            f"set tokenizer.vocab_size to at most {reached} or give more text"
        )
    return wrap_trained(model)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == 256:
            yield batch
            batch = []
    if batch:
        yield batch
