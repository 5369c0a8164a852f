"""The shards of one split of a store, read as if they were one file."""

import hashlib
import mmap
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from replay_jax.data.conversations.packing import Packing, pack
from replay_jax.data.tokens.manifest import COLUMNS, LOSS, SPLITS, Manifest

# Not STORE_FORMAT: the same tokens keep their name, however stores are laid out.
_FINGERPRINT_VERSION = "1"
_BLOCK = 1 << 24  # tokens


class Columns:
    """The shards of one split that have any of it, mapped when they are first read.

    starts: int64[shards], where the tokens of each begin in the split.
    """

    def __init__(self, directory: Path, manifest: Manifest, split: str) -> None:
        held = [shard for shard in manifest.shards if shard.splits[split].documents]
        self._folders = [Path(os.path.normpath(directory / shard.folder)) for shard in held]
        self._split = split
        self._dtype = np.dtype(manifest.dtype).newbyteorder("<")
        ends = np.cumsum([shard.splits[split].tokens for shard in held], dtype=np.int64)
        self.starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(held)]
        self._maps: dict[tuple[str, int], np.ndarray] = {}
        self._packings: dict[int, Packing] = {}

    def column(self, name: str, shard: int) -> np.ndarray:
        """One column ("tokens", LOSS or of COLUMNS) of one shard, as a read-only memory map."""
        if (name, shard) not in self._maps:
            own = {"tokens": self._dtype, LOSS: np.dtype(np.uint8)}
            dtype = own[name] if name in own else np.dtype(COLUMNS[name])
            self._maps[name, shard] = mapped(self._folders[shard] / f"{self._split}.{name}", dtype)
        return self._maps[name, shard]

    def shard_of(self, positions: np.ndarray) -> np.ndarray:
        """int64[n]: the shards that hold tokens of the split."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def read(self, start: int, stop: int, name: str = "tokens") -> np.ndarray:
        """Ids, or LOSS, of the tokens [start, stop), a view where one shard has them all."""
        if start >= stop:
            return np.empty(0, self._dtype if name == "tokens" else np.uint8)
        first, last = self.shard_of(np.array([start, stop - 1])).tolist()
        found = []
        for shard in range(first, last + 1):
            offset = int(self.starts[shard])
            found.append(self.column(name, shard)[max(0, start - offset) : stop - offset])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def documents(self) -> np.ndarray:
        """int64[documents]: where each document ends (exclusive)."""
        ends = [self.column("documents", n) + start for n, start in enumerate(self.starts)]
        return np.concatenate([*ends, np.empty(0, np.int64)])

    def packing(self, seq_len: int) -> Packing:
        """Rows of whole documents; raises UserError for one that is longer than a row."""
        if seq_len not in self._packings:
            self._packings[seq_len] = pack(self.documents(), seq_len)
        return self._packings[seq_len]

    @cached_property
    def supervised(self) -> np.ndarray:
        """int64[documents]: how many tokens of each document of a masked store count."""
        found = [np.empty(0, np.int64)]
        for shard in range(len(self.starts)):
            ends = self.column("documents", shard)
            starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
            found.append(np.add.reduceat(self.column(LOSS, shard), starts, dtype=np.int64))
        return np.concatenate(found)


def fingerprint(columns: Mapping[str, Columns], manifest: Manifest) -> str:
    """Hash of the tokens, document ends and masks of all splits; reads them all."""
    parts = []
    for split in SPLITS:
        own, total = columns[split], manifest.splits[split].tokens
        ends = hashlib.sha256()
        for number, start in enumerate(own.starts):
            ends.update((own.column("documents", number) + start).data)
        parts.append(f"{split}.documents {ends.hexdigest()}")
        for name in ("tokens", *([] if manifest.supervised is None else [LOSS])):
            values = hashlib.sha256()
            for start in range(0, total, _BLOCK):
                values.update(own.read(start, min(start + _BLOCK, total), name).data)
            parts.append(f"{split}.{name} {values.hexdigest()}")
    text = [_FINGERPRINT_VERSION, manifest.tokenizer, manifest.dtype, *parts]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    """A read-only memory map as a plain array."""
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Rows are drawn in random order: reading ahead would only push other pages out.
    if hasattr(mmap, "MADV_RANDOM") and path.suffix in (".tokens", f".{LOSS}"):
        pages.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(pages, dtype)
