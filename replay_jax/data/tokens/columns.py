"""The shards of one split of a store, read as if they were one file."""

import mmap
import os
from pathlib import Path

import numpy as np

from replay_jax.data.tokens.manifest import COLUMNS, Manifest


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

    def column(self, name: str, shard: int) -> np.ndarray:
        """One column ("tokens" or of COLUMNS) of one shard, as a read-only memory map."""
        if (name, shard) not in self._maps:
            dtype = self._dtype if name == "tokens" else np.dtype(COLUMNS[name])
            self._maps[name, shard] = mapped(self._folders[shard] / f"{self._split}.{name}", dtype)
        return self._maps[name, shard]

    def shard_of(self, positions: np.ndarray) -> np.ndarray:
        """int64[n]: the shards that hold tokens of the split."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def read(self, start: int, stop: int) -> np.ndarray:
        """Ids [start, stop), a view where one shard has them all."""
        if start >= stop:
            return np.empty(0, self._dtype)
        first, last = self.shard_of(np.array([start, stop - 1])).tolist()
        found = []
        for shard in range(first, last + 1):
            offset = int(self.starts[shard])
            found.append(self.column("tokens", shard)[max(0, start - offset) : stop - offset])
        return found[0] if len(found) == 1 else np.concatenate(found)


def mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    """A read-only memory map as a plain array."""
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Rows are drawn in random order: reading ahead would only push other pages out.
    if hasattr(mmap, "MADV_RANDOM") and path.suffix == ".tokens":
        pages.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(pages, dtype)
