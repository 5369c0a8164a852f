"""Train a byte-level BPE on a bounded, order-free sample of the training documents."""

import heapq
from collections.abc import Iterable, Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from replay_jax.data.sources.pieces import text_pieces
from replay_jax.data.sources.split import document_hash
from replay_jax.data.tokens.tokenizer import END_OF_TEXT, Tokenizer, wrap_trained
from replay_jax.errors import UserError


def sample_texts(documents: Iterable[str], limit: int) -> list[str]:
    """Pieces of documents chosen by the smallest content hash, at most `limit` bytes in all.

    One pass in bounded memory; the choice does not depend on the documents' order, and a
    corpus within the limit is taken whole. Exact copies of a piece count once.
    """
    chosen: dict[int, str] = {}
    largest_first: list[int] = []
    total = 0
    for document in documents:
        for piece in text_pieces(document):
            data = piece.encode()
            hashed = document_hash(data)
            if hashed in chosen:
                continue
            chosen[hashed] = piece
            heapq.heappush(largest_first, -hashed)
            total += len(data)
            while total > limit and len(chosen) > 1:
                total -= len(chosen.pop(-heapq.heappop(largest_first)).encode())
    return [chosen[hashed] for hashed in sorted(chosen)]


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
