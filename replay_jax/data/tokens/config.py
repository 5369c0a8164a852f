"""What is prepared: all sources of an experiment, one tokenizer, and where stores are kept."""

import re
from dataclasses import dataclass
from pathlib import Path

from replay_jax.data.sources.source import TOKEN_KINDS, SourceConfig
from replay_jax.data.tokens.tokenizer import TokenizerConfig
from replay_jax.errors import UserError
from replay_jax.schedule.generic import Weights, check_weights

COPIES_OF_BUCKETS = Path("data/from_buckets")
DROP_COPIES = ("none", "of_target", "all")


@dataclass(frozen=True)
class DataConfig:
    """All sources of an experiment, the tokenizer they share, and where stores are kept.

    store_dir: a folder, or a place in a bucket (gs://, s3://, az://) that machines share.
    sources: (name, source) pairs.
    tokenizer: that they share.
    generic: which of them is the generic data; or a mixture, (name, weight) pairs with weights that
        sum to 1, kept in the order of names (one source of weight 1 is that source).
    target: which of them is the target data.
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

    def __post_init__(self) -> None:
        names = [name for name, _ in self.sources]
        if len(set(names)) != len(names):
            raise UserError(f"source names must differ, got {names}")
        self._settle_roles(names)
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
        for role, name in roles:
            if name not in names:
                raise UserError(f"{role} source {name!r} is not among the sources {names}")
        if self.target in self.generics:
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
