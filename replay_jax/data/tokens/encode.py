"""Turn documents into tokens: read, encode and write at the same time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from replay_jax.data.sources.documents import Document
from replay_jax.data.tokens.pieces import PIECE_CHARACTERS, text_pieces
from replay_jax.data.tokens.tokenizer import Tokenizer, token_ids
from replay_jax.data.tokens.writer import ShardWriter


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
) -> None:
    """Write all documents.

    Reading and writing run in a thread each; the encoder uses `threads` cores and holds no
    Python lock, so the three overlap. `report` is called after every batch.
    """
    batches = piece_batches(documents, threads=threads, cut=tokenizer.cuts_are_exact)

    def write(batch: Sequence[Piece], encoded: Sequence[object]) -> None:
        writer.append([(piece.document, piece.last) for piece in batch], token_ids(encoded))

    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
        coming = reading.submit(next, batches, None)
        written: Future[None] | None = None
        while (batch := coming.result()) is not None:
            coming = reading.submit(next, batches, None)
            encoded = tokenizer.encode_batch([piece.text for piece in batch])
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
