"""A source in parts that are read alone, each known by its content: what shards are made of.

A part is one file, several small ones, or a piece of a large one cut at a document border. So a
change of one file changes one part, parts are read at the same time, and their order is that of
the source.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from replay_jax.data.conversations.chat import Chat, ConversationTaker
from replay_jax.data.conversations.marked import Marked, Taker, TextField, UnfitTemplate
from replay_jax.data.conversations.templates import RecordTemplate
from replay_jax.data.sources.datasets import (
    StoredSplit,
    huggingface_split,
    read_huggingface,
    read_tfds,
    tfds_split,
)
from replay_jax.data.sources.embedded import EMBEDDED_KINDS, embedded_files, read_embedded
from replay_jax.data.sources.files import (
    HashedFile,
    compressed,
    cut_at,
    expand_paths,
)
from replay_jax.data.sources.formats import (
    Texts,
    parquet_bytes,
    parquet_cuts,
    read_json_lines,
    read_parquet,
    read_text,
)
from replay_jax.data.sources.source import (
    DATASET_KINDS,
    TOKEN_KINDS,
    SourceConfig,
    validation_source,
)
from replay_jax.data.sources.token_files import token_files
from replay_jax.errors import UserError

# Bytes of input: half a minute of tokenizing, so that an interruption loses little, yet a
# terabyte is 16,000 parts.
PART_BYTES = 64 * 2**20
# Part of one is what documents of the whole source decide.
SPLIT, TRAIN, VALIDATION = "split", "train", "validation"


@dataclass(frozen=True)
class Part:
    """Some consecutive documents of a source.

    role: "split" (the hash of a document says which side it is on), or "train" and "validation"
        where the held-out documents come from elsewhere.
    files: absolute paths of the files that hold it.
    first, stop: the bytes (text, jsonl), row groups (parquet) or rows (tfds, huggingface) that
        are the part's; stop is None for all to the end.
    cut: whether the rest of the file follows in another part.
    bytes: of input, about.
    """

    role: str
    files: tuple[str, ...]
    first: int
    stop: int | None
    cut: bool
    bytes: int


def source_parts(config: SourceConfig, part_bytes: int = PART_BYTES) -> list[Part]:
    """All parts of a source in the order of its documents, the separately held-out ones first.

    Raises UserError for files that are missing, empty or unreadable.
    """
    if not config.validation_path:
        return _parts(config, SPLIT, part_bytes)
    held_out = _parts(validation_source(config), VALIDATION, part_bytes)
    return held_out + _parts(config, TRAIN, part_bytes)


def part_source(config: SourceConfig, role: str) -> SourceConfig:
    """The configuration that the documents of a role are read by."""
    return validation_source(config) if role == VALIDATION else config


def source_files(config: SourceConfig) -> list[Path]:
    """The files whose content decides the documents of a source without its validation_path."""
    if config.kind in EMBEDDED_KINDS:
        return [file.path for file in embedded_files(config.kind, config.path)]
    if config.kind in DATASET_KINDS:
        return _stored(config).files
    if config.kind in TOKEN_KINDS:
        return [file for together in token_files(config.kind, config.path) for file in together]
    return expand_paths(config.path)


@dataclass
class Read:
    """What was read of a part: the hash of its bytes, where reading it gives one."""

    digest: str | None = None


def read_part(config: SourceConfig, part: Part, read: Read, chat: Chat | None = None) -> Texts:
    """The texts of one part in order, bad ones as the errors they are (`formats`).

    Conversations are rendered by `chat`; UnfitTemplate is raised where it cannot.

    `read.digest` is set at the end, to what `part_digest` gives for the same bytes, where the
    bytes were hashed as they were read (text and jsonl).
    """
    own = part_source(config, part.role)
    return islice(_texts(own, part, read, _taker(own, chat)), own.max_documents)


def _taker(config: SourceConfig, chat: Chat | None) -> Taker:
    """What makes the texts of a source of its records."""
    if config.kind == "conversations":
        if chat is None:
            raise UnfitTemplate("conversations need a tokenizer with a chat template")
        return ConversationTaker(chat, config.loss_on)
    if config.template:
        return RecordTemplate(config.template, config.loss_fields)
    return TextField(config.text_field)


def read_documents(config: SourceConfig) -> Iterator[str | Marked]:
    """All documents of a source but conversations in stored order, empty ones included.

    Raises UserError for what cannot be read or is no text, naming file and line.
    """
    for part in _parts(config, SPLIT, PART_BYTES):
        for text in read_part(config, part, Read()):
            if isinstance(text, UserError):
                raise text
            yield text


def part_digest(config: SourceConfig, part: Part) -> str:
    """SHA-256 of all bytes that decide the part's documents."""
    digest = hashlib.sha256()
    for name in part.files:
        ranges: list[tuple[int, int | None]] = [(0, None)]
        if part.cut or part.first:
            if config.file_kind in ("text", "jsonl"):
                ranges = [(part.first, part.stop)]
            elif config.file_kind == "parquet":
                assert part.stop is not None
                ranges = list(parquet_bytes(Path(name), part.first, part.stop))
        for first, stop in ranges:
            with HashedFile(Path(name), first, stop) as file:
                digest.update(bytes.fromhex(file.hexdigest()))
    return digest.hexdigest()


def _texts(config: SourceConfig, part: Part, read: Read, taker: Taker) -> Texts:
    if config.kind in EMBEDDED_KINDS:
        return read_embedded(config.kind, config.path)
    if config.kind in DATASET_KINDS:
        reader = read_tfds if config.kind == "tfds" else read_huggingface
        return reader(config.path, config.split, taker, part.first, part.stop)
    if config.file_kind == "parquet":
        return chain.from_iterable(
            read_parquet(Path(name), taker, first=part.first, stop=part.stop) for name in part.files
        )
    return _hashed_texts(config, part, read, taker)


def _hashed_texts(config: SourceConfig, part: Part, read: Read, taker: Taker) -> Texts:
    digest = hashlib.sha256()
    for name in part.files:
        path = Path(name)
        with ExitStack() as opened:
            raw = opened.enter_context(HashedFile(path, part.first, part.stop))
            file = opened.enter_context(raw.decoded())
            if config.kind == "text":
                yield from read_text(file, path, config.separator, first=part.first, cut=part.cut)
            else:
                yield from read_json_lines(file, path, taker, first=part.first)
            digest.update(bytes.fromhex(raw.hexdigest()))
    read.digest = digest.hexdigest()


def _parts(config: SourceConfig, role: str, part_bytes: int) -> list[Part]:
    if config.kind in DATASET_KINDS:
        return _row_parts(_stored(config), role, part_bytes, config.max_documents)
    if config.kind in TOKEN_KINDS:
        return _token_parts(config, role)
    files = source_files(config)
    sizes = [path.stat().st_size for path in files]
    if config.kind in EMBEDDED_KINDS or config.max_documents is not None:
        # What a document is, or which is the last, depends on those before it.
        return [Part(role, _absolute(files), 0, None, False, sum(sizes))]
    parts: list[Part] = []
    waiting: list[Path] = []
    held = 0
    for path, size in zip(files, sizes, strict=True):
        cuts = _cuts(config, path, size, part_bytes)
        if len(cuts) > 1 or held + size > part_bytes or (held > part_bytes / 8 and _closes(path)):
            parts += _whole(role, waiting, held)
            waiting, held = [], 0
        if len(cuts) > 1:
            names = _absolute([path])
            parts += [
                Part(role, names, first, stop, number < len(cuts), count)
                for number, (first, stop, count) in enumerate(cuts, start=1)
            ]
        else:
            waiting.append(path)
            held += size
    return parts + _whole(role, waiting, held)


def _token_parts(config: SourceConfig, role: str) -> list[Part]:
    """One for each file: what is read where it lies is one file."""
    return [
        Part(role, _absolute(files), 0, None, False, sum(path.stat().st_size for path in files))
        for files in token_files(config.kind, config.path)
    ]


def _whole(role: str, files: list[Path], held: int) -> list[Part]:
    return [Part(role, _absolute(files), 0, None, False, held)] if files else []


def _closes(path: Path) -> bool:
    """Whether a part of small files ends before this one: by its name, so that a file more or
    less moves the borders near it only."""
    return hashlib.blake2b(path.name.encode(), digest_size=1).digest()[0] < 16


def _cuts(
    config: SourceConfig, path: Path, size: int, part_bytes: int
) -> list[tuple[int, int, int]]:
    """Ranges of a file that can be read alone, each with its bytes; none where it is not cut."""
    if size <= 1.5 * part_bytes:
        return []
    if config.file_kind == "parquet":
        return parquet_cuts(path, part_bytes)
    mark = b"\n" if config.file_kind == "jsonl" else config.separator.encode()
    if compressed(path) or not mark:
        return []
    return [(first, stop, stop - first) for first, stop in cut_at(path, mark, part_bytes)]


def _row_parts(split: StoredSplit, role: str, part_bytes: int, most: int | None) -> list[Part]:
    rows = split.rows if most is None else min(most, split.rows)
    count = max(1, round(split.bytes / part_bytes)) if most is None else 1
    borders = [rows * number // count for number in range(count + 1)]
    files = _absolute(split.files)
    return [
        Part(role, files, first, stop, stop < rows, split.bytes // count)
        for first, stop in zip(borders[:-1], borders[1:], strict=True)
    ]


def _stored(config: SourceConfig) -> StoredSplit:
    find = tfds_split if config.kind == "tfds" else huggingface_split
    return find(config.path, config.split)


def _absolute(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(os.path.abspath(file) for file in files)
