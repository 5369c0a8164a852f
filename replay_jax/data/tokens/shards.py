"""Make one shard of one part of a source: the work that processes share."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from replay_jax.data.conversations.chat import Chat
from replay_jax.data.sources.buckets import bring_folder, send_folder
from replay_jax.data.sources.documents import Document, part_documents
from replay_jax.data.sources.durable import claimed, read_only_allowed
from replay_jax.data.sources.fingerprints import KnownPart, known_part, part_key, stamps
from replay_jax.data.sources.in_place import IN_PLACE_NAME, InPlace, is_elsewhere, point_at
from replay_jax.data.sources.parts import TRAIN, VALIDATION, Part, Read
from replay_jax.data.sources.source import TOKEN_KINDS, SourceConfig
from replay_jax.data.sources.token_documents import token_documents
from replay_jax.data.sources.token_files import open_token_file
from replay_jax.data.tokens.bpe_training import Sample, sample_texts
from replay_jax.data.tokens.encode import marks_of, take_tokens, tokenize
from replay_jax.data.tokens.manifest import MANIFEST_NAME, STORE_FORMAT, read_shard_manifest
from replay_jax.data.tokens.tokenizer import Tokenizer, byte_tokenizer, open_tokenizer
from replay_jax.data.tokens.writer import ShardWriter, into_place
from replay_jax.errors import UserError

FOLDER = "shards"
# (documents, UTF-8 bytes, tokens) of a part so far.
Report = Callable[[int, int, int], None]


@dataclass(frozen=True)
class PartJob:
    """A part to be read. known: with its content, where that is known already."""

    source: str
    config: SourceConfig
    part: Part
    known: KnownPart | None
    store_dir: Path

    def content(self) -> KnownPart:
        """The part with its content; raises UserError where a file is gone."""
        if self.known is not None:
            return self.known
        try:
            return known_part(self.config, self.part, self.store_dir)
        except FileNotFoundError as error:
            raise UserError(f"{error.filename} is gone since it was listed; run again") from error


@dataclass(frozen=True)
class ShardJob(PartJob):
    """A part to make a shard of. tokenizer: its file, None for bytes. bucket: that shards are
    copied from and to, "" for none. wait: for another process that is at it."""

    tokenizer: Path | None
    bucket: str
    wait: bool


@dataclass(frozen=True)
class SampleJob(PartJob):
    """A part to take training text of a tokenizer from.

    limit: bytes. bound: content hashes from here on are of no use. held_out: sorted hashes of
    documents, and held_out_below: hashes of documents that are not trained on.
    """

    limit: int
    bound: int
    held_out: np.ndarray
    held_out_below: int


def shard_key(config: SourceConfig, known: KnownPart, tokenizer: Tokenizer) -> str:
    """Hash of all that decides a shard: role, content, configuration, tokenizer, format."""
    key: dict[str, object] = {"format": STORE_FORMAT, "part": part_key(config, known)}
    key["tokenizer"] = tokenizer.fingerprint
    if config.kind == "conversations":
        assert tokenizer.chat is not None
        key["chat"] = tokenizer.chat.fingerprint
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def shard_path(store_dir: Path, key: str) -> Path:
    """Where the shard of a key is, finished or not."""
    return store_dir / FOLDER / key[:32]


def shard_paths(
    store_dir: Path, config: SourceConfig, known: Sequence[KnownPart], tokenizer: Tokenizer
) -> list[Path]:
    """Where the shards of parts are, finished or not."""
    keys = [shard_key(config, part, tokenizer) for part in known]
    return [shard_path(store_dir, key) for key in keys]


def point_at_files(
    store_dir: Path, config: SourceConfig, known: Sequence[KnownPart], tokenizer: Tokenizer
) -> None:
    """Shards that read a source's files where they lie find them where they are now."""
    if config.kind not in TOKEN_KINDS:
        return
    for shard, part in zip(shard_paths(store_dir, config, known, tokenizer), known, strict=True):
        if is_elsewhere(shard) and all(map(os.path.exists, part.part.files)):
            with read_only_allowed():
                point_at(shard, part.part.files)


def identify_part(job: PartJob, threads: int, report: Report) -> KnownPart:
    """A part with its content, hashed if need be."""
    return job.content()


def make_shard(
    job: ShardJob, threads: int, report: Report, *, tokenizer: Tokenizer | None = None
) -> KnownPart | None:
    """Make a shard where there is none, or bring it; None where another process is at it.

    What an interrupted process left is not built upon. `tokenizer` is the one of the job's file,
    where it is at hand: a large one takes seconds to open. Raises UserError for bad input, and for
    input that changes while it is read, of which nothing is kept.
    """
    if tokenizer is None:
        tokenizer = byte_tokenizer() if job.tokenizer is None else _opened(job.tokenizer)
    known = job.content()
    key = shard_key(job.config, known, tokenizer)
    finished = shard_path(job.store_dir, key)
    partial = finished.with_name(f"{finished.name}.partial")
    with claimed(partial, finished / MANIFEST_NAME, wait=job.wait) as mine:
        if mine:
            try:
                brought = bool(job.bucket) and _brought(job.bucket, key, finished.name, partial)
                if not brought:
                    _fill(partial, key, job, known, tokenizer, threads, report)
            except UserError:
                shutil.rmtree(partial)
                raise
            into_place(partial, finished)
            if job.bucket and not brought:
                send_folder(job.bucket, f"{FOLDER}/{finished.name}", finished)
        elif not (finished / MANIFEST_NAME).exists():
            return None
    return known


def _brought(bucket: str, key: str, name: str, folder: Path) -> bool:
    """Whether the shard of a key is in the bucket; then it is in the folder now."""
    if not bring_folder(bucket, f"{FOLDER}/{name}", folder):
        return False
    if read_shard_manifest(folder).key != key:
        raise UserError(f"{bucket}/{FOLDER}/{name} is another shard than its name says; delete it")
    return True


def sample_part(job: SampleJob, threads: int, report: Report) -> tuple[KnownPart, Sample]:
    """Training text of a tokenizer from a part: none that is held out anywhere."""
    known = job.content()
    counts = [0, 0]

    def training() -> Iterator[str]:
        for number, document in enumerate(_read_whole(job, known)):
            counts[0], counts[1] = number + 1, counts[1] + document.bytes
            if number % 1024 == 0:
                report(counts[0], counts[1], 0)
            if document.bytes and not _held_out(document, job):
                yield document.text

    if job.part.role == VALIDATION:
        return known, Sample({}, job.bound)
    return known, sample_texts(training(), job.limit, bound=job.bound)


def held_out_hashes(job: PartJob) -> np.ndarray:
    """Hashes of the documents of a part."""
    hashes = [document.hashed for document in _read_whole(job, job.content()) if document.bytes]
    return np.array(hashes, np.uint64)


def _fill(
    partial: Path,
    key: str,
    job: ShardJob,
    known: KnownPart,
    tokenizer: Tokenizer,
    threads: int,
    report: Report,
) -> None:
    with closing(ShardWriter(partial, tokenizer)) as writer:

        def said() -> None:
            counts = writer.splits.values()
            report(
                writer.documents_read,
                sum(count.text_bytes for count in counts),
                sum(count.tokens for count in counts),
            )

        if job.config.kind in TOKEN_KINDS:
            _fill_with_ids(partial, job, known, tokenizer, writer, said)
            writer.finish(key)
            return
        tokenize(
            _read_whole(job, known, tokenizer.chat),
            tokenizer=tokenizer,
            writer=writer,
            threads=threads,
            report=said,
            marking=job.config if job.config.masked else None,
        )
        writer.finish(key)


def _fill_with_ids(
    partial: Path,
    job: ShardJob,
    known: KnownPart,
    tokenizer: Tokenizer,
    writer: ShardWriter,
    report: Callable[[], None],
) -> None:
    """Write the documents of a file of ids, whose ids stay where they lie as far as they can."""
    _check_files(job)
    file = open_token_file(job.part.files)
    documents = token_documents(job.config, job.part, file, marks_of(tokenizer))
    if take_tokens(
        documents, file, tokenizer=tokenizer, writer=writer, in_place=not job.bucket, report=report
    ):
        there = InPlace(file.ids.dtype.str, file.offset, len(file.ids), known.digest)
        text = json.dumps(asdict(there)) + "\n"
        writer.write_file(IN_PLACE_NAME, np.frombuffer(text.encode(), np.uint8))
        point_at(partial, job.part.files)
    _check_unchanged(job, known)


def _check_files(job: PartJob) -> None:
    for file in job.part.files:
        if not os.path.exists(file):
            raise UserError(f"{file} of source {job.source!r} is gone, and no shard is made of it")


def _check_unchanged(job: PartJob, known: KnownPart, *, altered: bool = False) -> None:
    if altered or stamps(job.part.files) != known.stamps:
        raise UserError(f"the input of {job.source!r} changed while it was read; run again")


def _read_whole(job: PartJob, known: KnownPart, chat: Chat | None = None) -> Iterator[Document]:
    """All documents of a part; raises UserError at the end if they are not the known content."""
    _check_files(job)
    read = Read()
    yield from part_documents(job.config, job.part, read, chat)
    other = read.digest is not None and read.digest != known.digest
    _check_unchanged(job, known, altered=other)


def _held_out(document: Document, job: SampleJob) -> bool:
    if document.held_out or document.hashed < job.held_out_below:
        return True
    if job.part.role != TRAIN or not len(job.held_out):
        return False
    place = min(int(np.searchsorted(job.held_out, document.hashed)), len(job.held_out) - 1)
    return int(job.held_out[place]) == document.hashed


@lru_cache(2)
def _opened(path: Path) -> Tokenizer:
    return open_tokenizer(path)
