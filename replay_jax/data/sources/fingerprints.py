"""What inputs are by content, remembered between calls, so that nothing is hashed twice.

Sizes and dates never are an identity (a copy has a new date, an edit may keep the size): they
only say whether a remembered hash still holds, as git does it. Every answer is a small file of
its own below "inputs" in the store folder, replaced whole, so processes cannot lose each other's.
Paths are kept relative to the store folder: a project that is copied with its stores is known
again, and two projects that share stores cannot be taken for each other.
"""

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from replay_jax.data.sources.answers import (
    absolute,
    answer_path,
    read_answer,
    relative,
    write_answer,
)
from replay_jax.data.sources.durable import file_sha256
from replay_jax.data.sources.embedded import EMBEDDED_KINDS, EXTRACTION_VERSION
from replay_jax.data.sources.files import found_paths
from replay_jax.data.sources.parts import SPLIT, Part, part_digest, part_source, source_files
from replay_jax.data.sources.source import (
    ADDED,
    DATASET_KINDS,
    TOKEN_KINDS,
    SourceConfig,
    validation_source,
)
from replay_jax.data.sources.token_files import found_token_files
from replay_jax.errors import UserError

# Size, modification and change time in ns, inode. The change time is the system's own: no tool
# that restores dates can restore it.
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Inputs:
    """Files by content. digest: hash of their contents in the order given."""

    digest: str


@dataclass(frozen=True)
class KnownPart:
    """A part whose content is known.

    digest: `parts.part_digest` of its files. stamps: of its files when they had it.
    """

    part: Part
    digest: str
    stamps: tuple[Stamp, ...]


@dataclass(frozen=True)
class _Digest:
    """What is remembered of a part, or of a file."""

    stamps: tuple[Stamp, ...]
    digest: str

    def __post_init__(self) -> None:
        _check_digest(self.digest)


@dataclass(frozen=True)
class _Source:
    """What is remembered of a source: its files, and its parts with their digests."""

    files: tuple[str, ...]
    stamps: tuple[Stamp, ...]
    parts: tuple[tuple[Part, str], ...]

    def __post_init__(self) -> None:
        for part, digest in self.parts:
            _check_digest(digest)
            if not set(part.files) <= set(self.files):
                raise UserError(f"a part of {part.files} is of no file of the source")
        if len(set(self.files)) != len(self.stamps) or not all(map(_is_path, self.files)):
            raise UserError(f"{len(self.stamps)} stamps of the files {self.files}")


def _check_digest(digest: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise UserError(f"{digest!r} is no SHA-256")


def _is_path(name: str) -> bool:
    """Whether the system could have a file of this name."""
    try:
        return bool(name) and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        return False


def stamps(files: Sequence[str]) -> tuple[Stamp, ...]:
    """What changes with each file's content; raises OSError where one is gone."""
    found = (os.stat(file) for file in files)
    return tuple((s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for s in found)


def known_part(config: SourceConfig, part: Part, store_dir: Path) -> KnownPart:
    """A part with its content: remembered, or hashed now. Raises OSError where a file is gone."""
    now = stamps(part.files)
    answer = _part_path(config, part, store_dir)
    return KnownPart(part, _remembered(answer, now, partial(part_digest, config, part)), now)


def recalled_part(config: SourceConfig, part: Part, store_dir: Path) -> KnownPart | None:
    """A part with its content, where that is remembered. Raises OSError where a file is gone."""
    now = stamps(part.files)
    digest = _recalled(_part_path(config, part, store_dir), now)
    return None if digest is None else KnownPart(part, digest, now)


def _part_path(config: SourceConfig, part: Part, store_dir: Path) -> Path:
    question = [config.kind, part.first, part.stop, *relative(part.files, store_dir)]
    return answer_path(store_dir, question)


def _recalled(path: Path, now: tuple[Stamp, ...]) -> str | None:
    """The hash that is remembered with these stamps."""
    known = read_answer(_Digest, path)
    return known.digest if known is not None and known.stamps == now else None


def _remembered(path: Path, now: tuple[Stamp, ...], compute: Callable[[], str]) -> str:
    digest = _recalled(path, now)
    if digest is None:
        digest = compute()
        write_answer(path, {"stamps": now, "digest": digest})
    return digest


def file_inputs(paths: Sequence[Path], store_dir: Path) -> Inputs:
    """Identity of files in the order given, each remembered."""
    store_dir = store_dir.expanduser()
    digest = hashlib.sha256()
    for path in paths:
        name = os.path.abspath(path)
        answer = answer_path(store_dir, relative([name], store_dir))
        now = stamps([name])
        digest.update(bytes.fromhex(_remembered(answer, now, partial(file_sha256, path))))
    return Inputs(digest.hexdigest())


def known_source(config: SourceConfig, store_dir: Path) -> list[KnownPart] | None:
    """The parts of a source as they were last read, where its files are what they were.

    Where all its files are gone they are taken to be what they were: a machine that was given
    the finished stores needs no copy of the text. None where anything is unknown. Looks at
    sizes and dates only. Raises UserError for a link that leads nowhere.
    """
    known = read_answer(_Source, source_answer(config, store_dir))
    if known is None:
        return None
    files = absolute(known.files, store_dir)
    found = _listed(config, files)
    if found:
        if found != files:
            return None
        try:
            now = stamps(files)
        except OSError:
            return None
        if now != known.stamps:
            return None
    stamp_of = dict(zip(files, known.stamps, strict=True))
    parts = []
    for stored, digest in known.parts:
        part = replace(stored, files=tuple(absolute(stored.files, store_dir)))
        parts.append(KnownPart(part, digest, tuple(stamp_of[name] for name in part.files)))
    return parts


def remember_source(config: SourceConfig, store_dir: Path, parts: Sequence[KnownPart]) -> None:
    """Keep what `known_source` answers with.

    Raises UserError where a file is no longer what it was when it was read.
    """
    stamp_of: dict[str, Stamp] = {}
    for known in parts:
        for file, stamp in zip(known.part.files, known.stamps, strict=True):
            if stamp_of.setdefault(file, stamp) != stamp or stamps([file]) != (stamp,):
                raise UserError(f"{file} changed while it was read; run again")
    stored = []
    for known in parts:
        files = tuple(relative(known.part.files, store_dir))
        stored.append([asdict(replace(known.part, files=files)), known.digest])
    answer = {
        "files": relative(list(stamp_of), store_dir),
        "stamps": list(stamp_of.values()),
        "parts": stored,
    }
    write_answer(source_answer(config, store_dir), answer)


def part_key(config: SourceConfig, known: KnownPart) -> dict[str, object]:
    """All that decides a part's documents and their sides; files are known by content alone."""
    own = part_source(config, known.part.role)
    key: dict[str, object] = {
        "role": known.part.role,
        "kind": own.kind,
        "text_field": own.text_field,
        "separator": own.separator,
        "max_documents": own.max_documents,
        "digest": known.digest,
    }
    if known.part.role == SPLIT:
        key["validation_fraction"] = own.validation_fraction
    key |= {name: value for name, value in own.declared().items() if name in ADDED}
    if own.kind in DATASET_KINDS:
        # Slices of one split have the same files.
        key |= {"split": own.split, "rows": [known.part.first, known.part.stop]}
    if own.kind in EMBEDDED_KINDS:
        key["extraction"] = EXTRACTION_VERSION
    return key


def _listed(config: SourceConfig, before: list[str]) -> list[str]:
    """The files that a source has now; of a dataset, which only loading would tell, those it
    had `before` that are still there."""
    if config.kind in DATASET_KINDS:
        return [file for file in before if os.path.exists(file)]
    if config.kind in EMBEDDED_KINDS:
        return [os.path.abspath(file) for file in source_files(config)]
    found = _found(config)
    if config.validation_path:
        found = _found(validation_source(config)) + found
    return list(dict.fromkeys(os.path.abspath(file) for file in found))


def _found(config: SourceConfig) -> list[Path]:
    if config.kind in TOKEN_KINDS:
        return found_token_files(config.kind, config.path)
    return found_paths(config.path)


def is_here(config: SourceConfig, store_dir: Path) -> bool:
    """Whether any file of a source is on this machine."""
    known = read_answer(_Source, source_answer(config, store_dir))
    return bool(_listed(config, absolute(known.files, store_dir) if known else []))


def source_answer(config: SourceConfig, store_dir: Path) -> Path:
    """The file that keeps what `known_source` answers with."""
    question = {n: v for n, v in config.declared().items() if n not in ("bad_documents", *ADDED)}
    if config.kind in EMBEDDED_KINDS:
        question["extraction"] = EXTRACTION_VERSION
    else:
        question["path"] = _place(config.path, config.kind, store_dir)
        if config.validation_path and config.kind not in DATASET_KINDS:
            question["validation_path"] = _place(config.validation_path, config.kind, store_dir)
    return answer_path(store_dir, question)


def _place(path: str, kind: str, store_dir: Path) -> str:
    """A path relative to the stores; the name of a published dataset as it is."""
    place = os.path.expanduser(path)
    if kind in DATASET_KINDS and not (os.path.isdir(place) or path.startswith((".", "/", "~"))):
        return path
    return relative([os.path.abspath(place)], store_dir)[0]
