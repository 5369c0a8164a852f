"""One source's documents with their split decided: what training and preparation both read."""

from collections.abc import Iterator
from dataclasses import dataclass

from replay_jax.data.sources.source import SourceConfig, read_documents, validation_source
from replay_jax.data.sources.split import document_hash, in_validation
from replay_jax.errors import UserError


@dataclass(frozen=True, slots=True)
class Document:
    """One document that was read; `text` is "" where there is nothing to learn from.

    bytes: UTF-8 length. hashed: `document_hash`. held_out: belongs to the validation split.
    """

    text: str
    bytes: int
    hashed: int
    held_out: bool


_NOTHING = Document("", 0, 0, False)


def split_documents(config: SourceConfig) -> Iterator[Document]:
    """Every document of a source in a fixed order; empty ones come as an empty Document.

    With a separate validation_path its documents come first, and copies of them are then
    dropped from the training documents (they come as empty ones). Nothing is shuffled: rows
    are drawn through a permutation later, and stored order lets a corpus stream.
    Raises UserError for text that is not Unicode, naming the document.
    """
    if not config.validation_path:
        for document in _encoded(config):
            yield _document(document, in_validation(document[2], config.validation_fraction))
        return
    held_out = set()
    for document in _encoded(validation_source(config)):
        held_out.add(document[2])
        yield _document(document, True)
    for document in _encoded(config):
        yield _NOTHING if document[2] in held_out else _document(document, False)


def _document(encoded: tuple[str, int, int], held_out: bool) -> Document:
    text, length, hashed = encoded
    return Document(text, length, hashed, held_out) if length else _NOTHING


def _encoded(config: SourceConfig) -> Iterator[tuple[str, int, int]]:
    """Text, UTF-8 length and hash of each document; white space alone has length 0."""
    for number, text in enumerate(read_documents(config), start=1):
        if not text or text.isspace():
            yield "", 0, 0
            continue
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"document {number} of {config.path or config.kind} holds half a surrogate pair "
                f"(U+{ord(text[error.start]):04X}), which is not text"
            ) from error
        yield text, len(data), document_hash(data)
