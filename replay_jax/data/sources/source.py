"""Where documents come from and which of them are held out: the configuration of one source."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from replay_jax.data.conversations.chat import LOSS_ON
from replay_jax.data.conversations.templates import RecordTemplate
from replay_jax.data.sources.embedded import EMBEDDED_KINDS
from replay_jax.errors import UserError

DATASET_KINDS = ("tfds", "huggingface")
# Kinds whose documents are made of records with fields.
RECORD_KINDS = ("jsonl", "parquet", *DATASET_KINDS)
TOKEN_KINDS = ("megatron", "npy")  # of token ids, which are read where they lie
SOURCE_KINDS = (*EMBEDDED_KINDS, "text", *RECORD_KINDS, "conversations", *TOKEN_KINDS)
BAD_DOCUMENTS = ("refuse", "pass_over")
# Fields with a value that stands for "as if there were no such field": identities leave it out.
ADDED: Mapping[str, Any] = {
    "train_fraction": 1.0,
    "template": "",
    "loss_fields": (),
    "loss_on": "assistant",
    "max_tokens": None,
    "truncate": False,
}


@dataclass(frozen=True)
class SourceConfig:
    """One source of documents and how much of it is held out.

    kind: text, jsonl, parquet, conversations, tfds, huggingface, megatron, npy, or what every
        installation has, python_docs, python_code and c_headers; Parquet, tfds and huggingface are
        read with the extras parquet, tfds and huggingface.
    path: file, folder or glob (text, jsonl, parquet; .gz, .bz2, .xz and .zst are decompressed;
        conversations: JSON lines, or Parquet where it ends in ".parquet");
        the same for token ids (megatron: .bin files, each with its .idx; npy);
        dataset name or folder (tfds, huggingface); for the embedded kinds a comma-separated list of
        distributions ("python" is the standard library), "" for all.
    text_field: field or column that holds the text (jsonl, parquet, tfds, huggingface).
    split: split to read (tfds, huggingface).
    separator: text only; where one document ends and the next begins, "" = one per file.
    validation_fraction: share of the documents held out, chosen by a hash of their content.
    validation_path: held-out documents of the same kind from elsewhere (for tfds and
        huggingface the name of a split); then validation_fraction must be 0.
    train_fraction: share of the documents trained on, chosen by the same hash: those next above
        the held-out ones, so that a larger share has all of a smaller one; 1 for all that is left.
    max_documents: read no more than this many documents (None = all), in stored order.
    bad_documents: what is done with one that is no text (a broken line, a missing field, half a
        surrogate pair): "refuse" ends the preparation naming it, "pass_over" counts it.
    template: text of a record from several fields, "{question}\\n{answer}", in place of text_field
        (RECORD_KINDS); "" for none.
    loss_fields: the fields of the template whose tokens count in the loss; () for all tokens.
    loss_on: conversations only: tokens of which turns count, "assistant" or "all".
    max_tokens: with conversations or loss_fields, whose documents are never cut by rows, the
        most tokens of one: at most training.seq_len + 1. A longer one is a bad document, unless
    truncate: it is cut there.
    """

    kind: str
    path: str = ""
    text_field: str = "text"
    split: str = "train"
    separator: str = ""
    validation_fraction: float = 0.05
    validation_path: str = ""
    max_documents: int | None = None
    bad_documents: str = "refuse"
    train_fraction: float = 1.0
    template: str = ""
    loss_fields: tuple[str, ...] = ()
    loss_on: str = "assistant"
    max_tokens: int | None = None
    truncate: bool = False

    @property
    def masked(self) -> bool:
        """Whether not all tokens count in the loss, and rows hold whole documents."""
        return self.kind == "conversations" or bool(self.loss_fields)

    @property
    def file_kind(self) -> str:
        """The kind of source that has the same files."""
        if self.kind != "conversations":
            return self.kind
        return "parquet" if self.path.endswith(".parquet") else "jsonl"

    def declared(self) -> dict[str, Any]:
        """All fields by name, less those that are as if there were none."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v for name, v in values.items() if name not in ADDED or v != ADDED[name]}

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
        if not 0 < self.train_fraction <= 1:
            raise UserError(
                f"train_fraction {self.train_fraction} must be above 0 and at most 1, which is all"
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
        if self.max_documents is not None:
            self._check_max_documents(self.max_documents)
        if self.bad_documents not in BAD_DOCUMENTS:
            raise UserError(
                f"bad_documents {self.bad_documents!r} is not one of {', '.join(BAD_DOCUMENTS)}"
            )
        self._check_records()

    def _check_records(self) -> None:
        if self.template and self.kind not in RECORD_KINDS:
            raise UserError(f"template is for kinds {', '.join(RECORD_KINDS)}, not {self.kind!r}")
        if self.loss_fields and not self.template:
            raise UserError(f"loss_fields {list(self.loss_fields)} are of a template; give one")
        if self.template:
            RecordTemplate(self.template, self.loss_fields)
        if self.loss_on not in LOSS_ON:
            raise UserError(f"loss_on {self.loss_on!r} is not one of {', '.join(LOSS_ON)}")
        if self.loss_on != "assistant" and self.kind != "conversations":
            raise UserError(f"loss_on is for kind 'conversations', not {self.kind!r}")
        if self.masked and (self.max_tokens is None or self.max_tokens < 2):
            raise UserError(
                "rows hold whole documents of conversations and of templates with loss_fields: set "
                f"max_tokens to at least 2 and at most training.seq_len + 1, not {self.max_tokens}"
            )
        if not self.masked and (self.max_tokens is not None or self.truncate):
            raise UserError(
                "max_tokens and truncate are for kind 'conversations' and for loss_fields: rows of "
                "other sources cut their documents"
            )

    def _check_max_documents(self, most: int) -> None:
        if most < 1:
            raise UserError(f"max_documents {most} must be at least 1, or None")
        if self.kind in TOKEN_KINDS:
            raise UserError(
                f"max_documents is not for kind {self.kind!r}: train_fraction takes a share of it"
            )


def validation_source(config: SourceConfig) -> SourceConfig:
    """The source of the separately held-out documents; only where validation_path is set."""
    place: dict[str, Any] = {
        "split" if config.kind in DATASET_KINDS else "path": config.validation_path
    }
    return replace(
        config,
        **place,
        validation_path="",
        validation_fraction=0.5,
        train_fraction=1.0,
        max_documents=None,
    )
