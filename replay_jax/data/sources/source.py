"""Where documents come from: one configuration, one stream of texts in a fixed order."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from replay_jax.data.sources.datasets import (
    huggingface_files,
    read_huggingface,
    read_tfds,
    tfds_files,
)
from replay_jax.data.sources.embedded import EMBEDDED_KINDS, embedded_files, read_embedded
from replay_jax.data.sources.files import (
    expand_paths,
    read_json_lines,
    read_parquet,
    read_text_file,
)
from replay_jax.errors import UserError

SOURCE_KINDS = (*EMBEDDED_KINDS, "text", "jsonl", "parquet", "tfds", "huggingface")


@dataclass(frozen=True)
class SourceConfig:
    """One source of documents and how much of it is held out.

    kind: one of SOURCE_KINDS.
    path: file, folder or glob (text, jsonl, parquet; .gz and .zst are decompressed); dataset
        name or folder (tfds, huggingface); for the embedded kinds a comma-separated list of
        distributions ("python" is the standard library), "" for all.
    text_field: field or column that holds the text (jsonl, parquet, tfds, huggingface).
    split: split to read (tfds, huggingface).
    separator: text only; where one document ends and the next begins, "" = one per file.
    validation_fraction: share of the documents held out, chosen by a hash of their content.
    validation_path: held-out documents of the same kind from elsewhere (for tfds and
        huggingface the name of a split); then validation_fraction must be 0.
    max_documents: read no more than this many documents (None = all), in stored order.
    """

    kind: str
    path: str = ""
    text_field: str = "text"
    split: str = "train"
    separator: str = ""
    validation_fraction: float = 0.05
    validation_path: str = ""
    max_documents: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in SOURCE_KINDS:
            raise UserError(f"source kind {self.kind!r} is not one of {', '.join(SOURCE_KINDS)}")
        embedded = self.kind in EMBEDDED_KINDS
        if not self.path and not embedded:
            raise UserError(f"a source of kind {self.kind!r} needs a path")
        if not 0 <= self.validation_fraction < 1:
            raise UserError(
                f"validation_fraction {self.validation_fraction} must be at least 0 and below 1"
            )
        if self.validation_path and embedded:
            raise UserError(f"a source of kind {self.kind!r} takes no validation_path")
        if bool(self.validation_path) == bool(self.validation_fraction):
            raise UserError(
                "a source needs exactly one of validation_fraction > 0 and validation_path, got "
                f"{self.validation_fraction} and {self.validation_path!r}"
            )
        if self.separator and self.kind != "text":
            raise UserError(f"separator is for kind 'text', not {self.kind!r}")
        if self.max_documents is not None and self.max_documents < 1:
            raise UserError(f"max_documents {self.max_documents} must be at least 1, or None")


def read_documents(config: SourceConfig) -> Iterator[str]:
    """All documents of a source in stored order, empty ones included.

    Raises UserError for files that are missing, empty or unreadable, naming file and line.
    """
    return itertools.islice(_all_documents(config), config.max_documents)


def validation_source(config: SourceConfig) -> SourceConfig:
    """The source of the separately held-out documents; only where validation_path is set."""
    place = {"split" if config.kind in ("tfds", "huggingface") else "path": config.validation_path}
    return replace(config, **place, validation_path="", validation_fraction=0.5, max_documents=None)


def input_files(config: SourceConfig) -> list[Path]:
    """The files whose content decides what `read_documents` gives, in reading order."""
    if config.kind in EMBEDDED_KINDS:
        return [file.path for file in embedded_files(config.kind, config.path)]
    if config.kind == "tfds":
        return tfds_files(config.path, config.split)
    if config.kind == "huggingface":
        return huggingface_files(config.path, config.split)
    return expand_paths(config.path)


def _all_documents(config: SourceConfig) -> Iterator[str]:
    if config.kind in EMBEDDED_KINDS:
        yield from read_embedded(config.kind, config.path)
    elif config.kind == "tfds":
        yield from read_tfds(config.path, config.split, config.text_field)
    elif config.kind == "huggingface":
        yield from read_huggingface(config.path, config.split, config.text_field)
    else:
        for path in expand_paths(config.path):
            if config.kind == "text":
                yield from read_text_file(path, config.separator)
            elif config.kind == "jsonl":
                yield from read_json_lines(path, config.text_field)
            else:
                yield from read_parquet(path, config.text_field)
