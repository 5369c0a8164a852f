"""Documents with their split decided by their content, before anything is tokenized."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from replay_jax.data.conversations.chat import Chat
from replay_jax.data.conversations.marked import Marked
from replay_jax.data.sources.parts import SPLIT, VALIDATION, Part, Read, read_part, source_parts
from replay_jax.data.sources.source import SourceConfig
from replay_jax.errors import UserError

# Part of every store's identity: another key would move documents between the splits.
_KEY = b"replay_jax validation split 1"


@dataclass(frozen=True, slots=True)
class Document:
    """One document that was read; `text` is "" where there is nothing to learn from.

    bytes: UTF-8 length. hashed: `document_hash`. held_out: belongs to the validation split.
    bad: what was wrong with it, where it is no text. marked: where not all of it counts.
    """

    text: str
    bytes: int
    hashed: int
    held_out: bool
    bad: str = ""
    marked: Marked | None = None


_NOTHING = Document("", 0, 0, False)


def document_hash(data: bytes) -> int:
    """Keyed 64-bit hash of a document's UTF-8 bytes: equal texts always share a side."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=_KEY).digest(), "little")


def held_out_below(fraction: float) -> int:
    """The hash below which a document is held out at this fraction.

    Nested: what is held out at a small fraction is held out at every larger one, and the
    answer is the same in every source, so two sources with equal fractions cannot leak into
    each other's held-out sets through exact copies.
    """
    return int(fraction * 2**64)


def role_borders(config: SourceConfig, role: str) -> tuple[int, int]:
    """The hash below which documents of a role are held out, and that below which they are used."""
    fraction = {SPLIT: config.validation_fraction, VALIDATION: 1.0}.get(role, 0.0)
    return held_out_below(fraction), held_out_below(min(1.0, fraction + config.train_fraction))


def part_documents(
    config: SourceConfig, part: Part, read: Read, chat: Chat | None = None
) -> Iterator[Document]:
    """Every document of a part in order; empty, bad and unwanted ones come without bytes.

    Nothing is shuffled: rows are drawn through a permutation later, and stored order lets a
    corpus stream. Conversations are rendered by `chat`. Raises UserError for a bad document
    where the source refuses them.
    """
    limit, end = role_borders(config, part.role)
    where = part.files[0] if part.files else config.kind
    if part.first:
        where += f" after {part.first}"
    for number, found in enumerate(read_part(config, part, read, chat), start=1):
        marked = found if isinstance(found, Marked) else None
        text = found.text if isinstance(found, Marked) else found
        if isinstance(text, UserError):
            bad = text
        elif not text or text.isspace():
            yield _NOTHING
            continue
        else:
            try:
                data = text.encode()
            except UnicodeEncodeError as error:
                bad = _surrogate(f"document {number} of {where}", text, error)
            else:
                hashed = document_hash(data)
                wanted = hashed < end
                held_out = hashed < limit
                whole = Document(text, len(data), hashed, held_out, marked=marked)
                yield whole if wanted else _NOTHING
                continue
        if config.bad_documents == "refuse":
            raise bad
        yield Document("", 0, 0, False, str(bad))


def split_documents(config: SourceConfig, chat: Chat | None = None) -> Iterator[Document]:
    """Every document of a source, those of its validation_path first; `chat` as above.

    Copies of documents that are held out separately are dropped from the training documents
    (they come as empty ones).
    """
    held_out = set()
    for part in source_parts(config):
        for document in part_documents(config, part, Read(), chat):
            if part.role == VALIDATION:
                held_out.add(document.hashed)
            copied = part.role != VALIDATION and document.bytes and document.hashed in held_out
            yield _NOTHING if copied else document


def _surrogate(where: str, text: str, error: UnicodeEncodeError) -> UserError:
    return UserError(
        f"{where}: half a surrogate pair (U+{ord(text[error.start]):04X}), which is not text"
    )
