"""Turn one source into one store: read, encode and write at the same time."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from replay_jax.data.sources.documents import Document
from replay_jax.data.sources.pieces import PIECE_CHARACTERS, text_pieces
from replay_jax.data.tokens.tokenizer import Tokenizer, token_ids
from replay_jax.data.tokens.writer import StoreProgress, StoreWriter

# UTF-8 bytes of text between two checkpoints: some seconds of work, and a few fsyncs.
CHECKPOINT_BYTES = 64 * 2**20


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
    writer: StoreWriter,
    report: Callable[[StoreProgress], None],
    checkpoint_bytes: int,
) -> None:
    """Write all documents that the writer does not have yet.

    Reading and writing run in a thread each; the encoder uses all cores and holds no Python
    lock, so the three overlap. `report` is called after every batch.
    """
    batches = piece_batches(islice(documents, writer.progress.documents_read, None))
    checkpointed = writer.progress.text_bytes

    def write(batch: Sequence[Piece], encoded: Sequence[object]) -> None:
        nonlocal checkpointed
        writer.append([(piece.document, piece.last) for piece in batch], token_ids(encoded))
        if writer.progress.text_bytes - checkpointed >= checkpoint_bytes:
            writer.checkpoint()
            checkpointed = writer.progress.text_bytes

    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        coming = reading.submit(next, batches, None)
        written: Future[None] | None = None
        while (batch := coming.result()) is not None:
            coming = reading.submit(next, batches, None)
            encoded = tokenizer.encode_batch([piece.text for piece in batch])
            if written is not None:
                written.result()
                report(writer.progress)
            written = writing.submit(write, batch, encoded)
        if written is not None:
            written.result()
    report(writer.progress)


def piece_batches(documents: Iterable[Document]) -> Iterator[list[Piece]]:
    """Pieces of documents in order, in batches with work for every core."""
    limit = 16 * PIECE_CHARACTERS * max(2, os.cpu_count() or 1)
    batch: list[Piece] = []
    size = 0
    for document in documents:
        texts = list(text_pieces(document.text)) or [""]
        for number, text in enumerate(texts, start=1):
            batch.append(Piece(text, document, number == len(texts)))
            # A document costs something however short it is.
            size += len(text) + 64
            if size >= limit:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch
