"""What is prepared: all sources of an experiment, one tokenizer, and where stores are kept."""

import re
from dataclasses import dataclass
from pathlib import Path

from replay_jax.data.sources.source import TOKEN_KINDS, SourceConfig
from replay_jax.errors import UserError
from replay_jax.schedule.generic import Weights, check_weights

COPIES_OF_BUCKETS = Path("data/from_buckets")
DROP_COPIES = ("none", "of_target", "all")


TOKENIZER_KINDS = ("bytes", "bpe", "file")


@dataclass(frozen=True)
class TokenizerConfig:
    """Which tokenizer; `vocab_size` and `train_*` are for kind "bpe" only.

    kind: "bytes" (256 bytes and an end-of-text id), "bpe" (byte-level BPE trained on the
        training split of the sources), "file" (a tokenizer.json or a Hugging Face hub id).
    path: for "file".
    eos_token: for "file", the token that ends a document; "" looks for the usual names.
    bos_token: for "file", a token that begins every document; "" for none. A model that was
        trained with one, as Llama was, needs it where training goes on from it.
    vocab_size: tokens in all, end-of-text included; at least 257.
    train_sources: source names to train on; () means every source.
    train_bytes: training reads at most this many bytes of each source, a fixed
        pseudo-random sample of its training documents.
    chat_template: file of the template that renders conversations; "" for the tokenizer's own.
    """

    kind: str = "bpe"
    path: str = ""
    eos_token: str = ""
    bos_token: str = ""
    vocab_size: int = 4096
    train_sources: tuple[str, ...] = ()
    train_bytes: int = 32 * 2**20
    chat_template: str = ""

    def __post_init__(self) -> None:
        if self.kind not in TOKENIZER_KINDS:
            raise UserError(f"tokenizer kind {self.kind!r} is not one of {TOKENIZER_KINDS}")
        if (self.kind == "file") != bool(self.path):
            raise UserError(
                f"tokenizer kind 'file' needs a path and no other kind takes one, "
                f"got kind {self.kind!r} and path {self.path!r}"
            )
        for name in ("eos_token", "bos_token"):
            if getattr(self, name) and self.kind != "file":
                raise UserError(f"{name} is for tokenizer kind 'file', not {self.kind!r}")
        if self.kind == "bpe" and self.vocab_size < 257:
            raise UserError(
                f"tokenizer vocab_size {self.vocab_size} is too small: 256 bytes and "
                "end-of-text need at least 257"
            )
        if self.train_bytes < 1:
            raise UserError(f"tokenizer train_bytes {self.train_bytes} must be at least 1")


@dataclass(frozen=True)
class DataConfig:
    """All sources of an experiment, the tokenizer they share, and where stores are kept.

    store_dir: a folder, or a place in a bucket (gs://, s3://, az://) that machines share.
    sources: (name, source) pairs.
    tokenizer: that they share.
    generic: which of them is the generic data; or a mixture, (name, weight) pairs with weights that
        sum to 1, kept in the order of names (one source of weight 1 is that source).
    target: which of them is the target data.
    held_out_generic: the source whose held-out text every run's generic loss is of, whatever it
        replays, so that runs that replay different sources compare; "" for what is replayed.
    repeat_generic: whether sources other than the target may be drawn again, in a new order,
        once all their rows have been seen; otherwise running out of them is an error.
    drop_copies: which exact copies are left out of training text: "none", "of_target" (documents
        of other sources that stand in the target's training or held-out text) or "all" (these,
        and second and later copies within each source).
    """

    sources: tuple[tuple[str, SourceConfig], ...]
    tokenizer: TokenizerConfig
    store_dir: str
    generic: str | Weights
    target: str
    repeat_generic: bool = False
    drop_copies: str = "none"
    held_out_generic: str = ""

    def __post_init__(self) -> None:
        names = [name for name, _ in self.sources]
        if len(set(names)) != len(names):
            raise UserError(f"source names must differ, got {names}")
        self._settle_roles(names)
        if self.has_conversations and self.tokenizer.kind == "bpe":
            raise UserError(
                "a source of kind 'conversations' needs a tokenizer with a chat template, kind "
                "'file', and not one that is trained"
            )
        if self.tokenizer.chat_template and not self.has_conversations:
            raise UserError(
                f"tokenizer.chat_template {self.tokenizer.chat_template!r} is for sources of kind "
                "'conversations', and there is none"
            )
        for name in self.tokenizer.train_sources:
            if name not in names:
                raise UserError(f"tokenizer.train_sources names {name!r}, not among {names}")
        of_ids = [name for name, source in self.sources if source.kind in TOKEN_KINDS]
        if of_ids and self.tokenizer.kind == "bpe":
            raise UserError(
                f"source {of_ids[0]!r} is token ids already: set data.tokenizer to the one that "
                "made them (kind 'file' or 'bytes'), as none can be trained on them"
            )
        if self.drop_copies not in DROP_COPIES:
            raise UserError(
                f"data.drop_copies {self.drop_copies!r} is not one of {', '.join(DROP_COPIES)}"
            )
        if ":/" in self.store_dir and not re.match(r"(gs|s3|az)://[^/]", self.store_dir):
            raise UserError(
                f"data.store_dir {self.store_dir!r} is neither a folder nor a place in a bucket, "
                "gs://bucket/name"
            )

    def _settle_roles(self, names: list[str]) -> None:
        if not isinstance(self.generic, str):
            check_weights(self.generic)
            ordered = tuple(sorted(self.generic))
            object.__setattr__(self, "generic", ordered[0][0] if len(ordered) == 1 else ordered)
        roles = [*(("generic", name) for name in self.generics), ("target", self.target)]
        if self.held_out_generic:
            roles.append(("held_out_generic", self.held_out_generic))
        for role, name in roles:
            if name not in names:
                raise UserError(f"{role} source {name!r} is not among the sources {names}")
        if self.target in (*self.generics, self.held_out_generic):
            raise UserError(f"generic and target are both {self.target!r}; they must differ")
        if len(set(self.generics)) != len(self.generics):
            raise UserError(f"the generic mixture names a source twice: {list(self.generics)}")

    @property
    def generics(self) -> tuple[str, ...]:
        """The sources of the generic data."""
        mixture = ((self.generic, 1.0),) if isinstance(self.generic, str) else self.generic
        return tuple(name for name, _ in mixture)

    @property
    def bucket(self) -> str:
        """The place in a bucket that shards are copied from and to; "" for none."""
        return self.store_dir.rstrip("/") if "://" in self.store_dir else ""

    @property
    def has_conversations(self) -> bool:
        """Whether a source needs the tokenizer's chat template."""
        return any(source.kind == "conversations" for _, source in self.sources)

    @property
    def stores(self) -> Path:
        """The folder of stores on this machine, "~" for the home folder.

        Of a bucket it is a copy below COPIES_OF_BUCKETS, which begins where the command runs, as
        relative paths of sources do.
        """
        if self.bucket:
            return COPIES_OF_BUCKETS / self.bucket.replace("://", "/")
        return Path(self.store_dir).expanduser()

    def tokenizer_sources(self) -> list[tuple[str, SourceConfig]]:
        """The sources that a tokenizer is trained on."""
        chosen = self.tokenizer.train_sources
        return [(name, source) for name, source in self.sources if not chosen or name in chosen]
