"""Turn documents into tokens: read, encode and write at the same time; or take tokens that lie."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np

from replay_jax.data.conversations.token_mask import encoded_with_offsets, token_mask
from replay_jax.data.sources.documents import Document
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.token_documents import Marks, TokenDocument
from replay_jax.data.sources.token_files import TokenFile
from replay_jax.data.tokens.columns import EXTENTS
from replay_jax.data.tokens.manifest import SPLITS
from replay_jax.data.tokens.pieces import PIECE_CHARACTERS, text_pieces
from replay_jax.data.tokens.tokenizer import Tokenizer, is_byte_level, token_ids
from replay_jax.data.tokens.writer import ShardWriter
from replay_jax.errors import UserError

_TOGETHER = 4096  # documents of ids


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
        rendered = marking.kind == "conversations"
        return encoded_with_offsets(tokenizer.model, texts, rendered=rendered)

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


def take_tokens(
    documents: Iterable[TokenDocument],
    file: TokenFile,
    *,
    tokenizer: Tokenizer,
    writer: ShardWriter,
    in_place: bool,
    report: Callable[[], None],
) -> bool:
    """Write where all documents lie, and the ids of those that do not lie as a shard needs them.

    A shard needs the tokens that begin and end a document around it. Without `in_place` all ids are
    written. Returns whether ids are left to be read in the file.
    """
    coming = iter(documents)
    extents: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    while batch := list(islice(coming, _TOGETHER)):
        for split in SPLITS:
            own = [d for d in batch if d.bytes and d.held_out == (split == "validation")]
            if own:
                extents[split].append(_take(own, split, file, tokenizer, writer, in_place))
        writer.documents_read += len(batch)
        writer.empty += sum(not document.bytes for document in batch)
        report()
    elsewhere = False
    for split, found in extents.items():
        if any((runs[:, 1] >= 0).any() for runs in found):
            writer.write_file(f"{split}.{EXTENTS}", np.concatenate(found).astype("<i8"))
            elsewhere = True
    return elsewhere


def _take(
    documents: Sequence[TokenDocument],
    split: str,
    file: TokenFile,
    tokenizer: Tokenizer,
    writer: ShardWriter,
    in_place: bool,
) -> np.ndarray:
    """int64[runs, 2]: where runs of the documents begin in the split and where they lie."""
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    first = np.array([d.start - len(begin) for d in documents])
    last = np.array([d.stop + 1 for d in documents])
    hashes = np.array([d.hashed for d in documents], np.uint64)
    sizes = np.array([d.bytes for d in documents])
    lengths = last - first
    stays = np.array([d.whole and in_place for d in documents])
    written = [
        np.array([*begin, *file.ids[d.start : d.stop].tolist(), tokenizer.eos_id])
        for d, there in zip(documents, stays, strict=True)
        if not there
    ]
    owned = np.where(stays, 0, lengths)
    places = np.where(stays, first, -1 - writer.written[split] - np.cumsum(owned) + owned)
    new = np.ones(len(documents), bool)
    new[1:] = stays[1:] != stays[:-1]
    new[1:] |= stays[1:] & (first[1:] != last[:-1])
    starts = writer.splits[split].tokens + np.cumsum(lengths) - lengths
    runs = np.stack([starts[new], places[new]], axis=1)
    stood_for = _token_bytes(file, runs, np.diff(starts[new], append=starts[0] + lengths.sum()),
                             tokenizer)  # fmt: skip
    if written:
        ids = np.concatenate(written)
        writer.write_tokens(split, ids)
        stood_for += int(tokenizer.byte_lengths[ids].sum(dtype=np.int64))
    writer.describe(split, lengths, hashes, sizes, stood_for)
    return runs


def _token_bytes(
    file: TokenFile, runs: np.ndarray, lengths: np.ndarray, tokenizer: Tokenizer
) -> int:
    """Bytes that the ids of runs stand for which stay where they are."""
    total = 0
    for place, length in zip(runs[:, 1].tolist(), lengths.tolist(), strict=True):
        if place >= 0:
            ids = file.ids[place : place + length]
            total += int(tokenizer.byte_lengths[ids].sum(dtype=np.int64))
    return total


def marks_of(tokenizer: Tokenizer) -> Marks:
    """What a tokenizer says of ids that it is said to have made."""
    return Marks(tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id, _text_of(tokenizer))


def _text_of(tokenizer: Tokenizer) -> Callable[[np.ndarray], bytes]:
    """UTF-8 bytes of ids: of the very text for byte-level tokenizers, close to it for others."""
    model = tokenizer.model
    if model is None:
        return lambda ids: ids[ids < 256].astype(np.uint8).tobytes()
    if not is_byte_level(json.loads(model.to_str())):
        return lambda ids: tokenizer.decode(ids.tolist()).encode()
    added = model.get_added_tokens_decoder()
    table = [b""] * tokenizer.vocab_size
    of_character = _bytes_of_characters()
    for token, index in model.get_vocab(with_added_tokens=True).items():
        if index not in added:
            table[index] = bytes(of_character[character] for character in token)
        elif not added[index].special:
            table[index] = token.encode()
    return lambda ids: b"".join(map(table.__getitem__, ids.tolist()))


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's way to write bytes as characters: visible ones of Latin-1, others from 256 on."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(b): b for b in visible} | {chr(256 + n): b for n, b in enumerate(others)}
