"""A look at somebody's own files: how much text there is, how long its documents, what is repeated.

Nothing is written, and no more than a bounded part is read; numbers are of that part.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from replay_jax.config.paper import own_source
from replay_jax.data.sources.documents import split_documents
from replay_jax.data.sources.files import expand_paths, open_binary
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.bpe_training import sample_texts, train_bpe
from replay_jax.data.tokens.tokenizer import Tokenizer, token_ids
from replay_jax.errors import UserError
from replay_jax.progress import stage
from replay_jax.strict import from_plain

# Bytes of text that are read of each side, that a tokenizer is trained on, documents encoded.
_READ, _SAMPLE, _ENCODED = 256 * 2**20, 4 * 2**20, 500
# Fields that hold the turns of a conversation.
_TURNS = ("messages", "conversations")
# Where a file has no documents of its own: tried in turn until there are so many.
_SEPARATORS, _LEAST_DOCUMENTS = ("\n\n", "\n"), 40


@dataclass(frozen=True)
class Seen:
    """What one side, generic or target, holds.

    Attributes:
        path: what was named.
        source: how it is read.
        documents, bytes: documents with text that were read, and their bytes of text.
        bad: documents that are no text, which were passed over.
        is_whole: whether that is all there is.
        hashes: of the documents' content.
        texts: some of the documents.
    """

    path: str
    source: SourceConfig
    documents: int
    bytes: int
    bad: int
    is_whole: bool
    hashes: frozenset[int]
    texts: tuple[str, ...]

    @property
    def repeated(self) -> int:
        """Documents that are a second or later copy."""
        return self.documents - len(self.hashes)


@dataclass(frozen=True)
class Measured:
    """Tokens of what was read, and of its median document."""

    tokens: int
    tokens_per_document: int


def look(path: str) -> Seen:
    """Read a file, folder or glob as far as the bound.

    JSON lines without a field "text" are read by the field that is the longest string of the first
    record. Text in files too few to hold some of them out is cut at blank lines, or at lines.

    Raises:
        UserError: no such file, no field with text, or no text at all.
    """
    source = source_of(path)
    if source.kind == "conversations":
        raise UserError(
            f"{path} holds conversations, which are rendered by the template of the model that "
            "they fine-tune: name its folder or hub id with --model"
        )
    seen = _read(path, source)
    for separator in _SEPARATORS if source.kind == "text" else ():
        if seen.documents >= _LEAST_DOCUMENTS:
            break
        seen = _read(path, replace(source, separator=separator))
    return seen


def _read(path: str, source: SourceConfig) -> Seen:
    documents = size = bad = 0
    why = ""
    hashes: set[int] = set()
    texts: list[str] = []
    whole = True
    there = min(_READ, sum(file.stat().st_size for file in expand_paths(path)))
    with stage(f"reading {path}", there) as advance:
        for document in split_documents(source):
            bad += bool(document.bad)
            why = why or document.bad
            if not document.bytes:
                continue
            if size > _READ:
                whole = False
                break
            documents, size = documents + 1, size + document.bytes
            advance(document.bytes)
            hashes.add(document.hashed)
            if size < _SAMPLE or len(texts) < _ENCODED:
                texts.append(document.text)
    if not documents:
        raise UserError(f"{path} holds no document with text{f': {why}' if why else ''}")
    return Seen(path, source, documents, size, bad, whole, frozenset(hashes), tuple(texts))


def tokenizer_of(seen: Seen, vocab_size: int) -> Tokenizer:
    """A byte-pair encoding trained on a sample of what was seen.

    Raises:
        UserError: there is too little text for so many tokens; the message says how many it gives.
    """
    return train_bpe(sample_texts(seen.texts, _SAMPLE).texts(), vocab_size)


def measure(seen: Seen, tokenizer: Tokenizer) -> Measured:
    """Tokens of a side: those of some documents, scaled to the bytes of all that were read."""
    texts = seen.texts[:_ENCODED]
    lengths = [len(ids) + 1 for ids in token_ids(tokenizer.encode_batch(texts))]
    encoded = sum(len(text.encode()) for text in texts)
    tokens = round(sum(lengths) * seen.bytes / encoded)
    return Measured(tokens, round(statistics.median(lengths)))


def shared_documents(one: Seen, other: Seen) -> int:
    """Documents of one side that stand, word for word, in the other."""
    return len(one.hashes & other.hashes)


def source_of(path: str) -> SourceConfig:
    """How a file, folder or glob is read; conversations by their first record.

    Raises:
        UserError: no such file, or no field with text.
    """
    plain = own_source(path).to_dict()
    if plain["kind"] == "jsonl":
        record = _first_record(path)
        if _is_conversation(record):
            plain |= {"kind": "conversations", "max_tokens": 2}  # a study sets the bound
        else:
            plain["text_field"] = _text_field(record, path)
    return from_plain(SourceConfig, {**plain, "bad_documents": "pass_over"}, path="source")


def _first_record(path: str) -> Any:
    first = expand_paths(path)[0]
    try:
        with open_binary(first) as file:
            line = file.readline()
    except (EOFError, OSError) as error:
        raise UserError(f"{first} cannot be read: {error}") from error
    try:
        return json.loads(line)
    except ValueError:
        return {}


def _is_conversation(record: Any) -> bool:
    """Whether a record has the fields of one, in any of their forms (`messages.messages_of`)."""
    if not isinstance(record, dict) or "text" in record:
        return False
    listed = (isinstance(record[name], list) for name in _TURNS if name in record)
    return any(listed) or {"prompt", "completion"} <= record.keys()


def _text_field(record: Any, path: str) -> str:
    """The field "text", or else the longest string of the first record."""
    fields = record if isinstance(record, dict) else {}
    strings = {k: v for k, v in fields.items() if isinstance(v, str)}
    if "text" in strings:
        return "text"
    if not strings:
        found = ", ".join(fields) or "no JSON object"
        raise UserError(f"the first record of {path} has no field with text: {found}")
    return _longest(strings)


def _longest(strings: dict[str, str]) -> str:
    names: Sequence[str] = sorted(strings)
    return max(names, key=lambda name: len(strings[name]))
