"""Stores of given documents, written through the real writer."""

from pathlib import Path

import numpy as np

from replay_jax.data.sources.documents import Document
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.data.tokens.writer import StoreWriter


def wide_tokenizer(vocab_size: int) -> Tokenizer:
    """Ids up to any size: id i stands for i % 5 bytes, the last id ends a document."""
    lengths = (np.arange(vocab_size) % 5).astype(np.uint16)
    return Tokenizer("bytes", vocab_size, None, vocab_size - 1, f"wide {vocab_size}", lengths, None)


def make_store(
    path: Path, train: list[list[int]], validation: list[list[int]], vocab_size: int = 300
) -> TokenStore:
    """A store of given documents, written through the real writer."""
    writer = StoreWriter(path, wide_tokenizer(vocab_size))
    for held_out, documents in ((False, train), (True, validation)):
        for number, ids in enumerate(documents):
            document = Document("x", 7, number, held_out)
            writer.append([(document, True)], [np.array(ids, np.uint32)])
    writer.finish(source=path.name, kind="text", identity="identity", inputs="inputs")
    assert check_store(path) == []
    return TokenStore.open(path)
