"""The shards of one split of a store, read as if they were one file."""

import hashlib
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from replay_jax.data.conversations.packing import Packing, pack
from replay_jax.data.sources.in_place import in_place
from replay_jax.data.tokens.manifest import COLUMNS, LOSS, SPLITS, Manifest
from replay_jax.errors import UserError

# Not STORE_FORMAT: the same tokens keep their name, however stores are laid out.
_FINGERPRINT_VERSION = "1"
_BLOCK = 1 << 24  # tokens
# Where the runs of ids lie that make up a split: pairs of `starts` and `places` of ShardTokens.
EXTENTS = "extents"


@dataclass(frozen=True)
class ShardTokens:
    """The ids of a split of one shard: its own, or those of a file that are read where they lie.

    dtype: that they are given in, whatever the file has.
    own: ids in the shard's own file. elsewhere: all ids of the other file.
    starts: int64[extents], where in the split each run of ids begins.
    places: int64[extents], where it begins in `elsewhere`, or -1 - p for place p of `own`.
    """

    dtype: np.dtype
    own: np.ndarray
    elsewhere: np.ndarray
    starts: np.ndarray
    places: np.ndarray

    def read(self, start: int, stop: int) -> np.ndarray:
        """Ids [start, stop), a view where they lie together and have the type."""
        if start >= stop:
            return np.empty(0, self.dtype)
        first, last = self._extent(np.array([start, stop - 1])).tolist()
        found = []
        for extent in range(first, last + 1):
            low = max(start, int(self.starts[extent]))
            high = stop if extent == last else int(self.starts[extent + 1])
            ids, place = self._at(extent)
            place += low - int(self.starts[extent])
            found.append(ids[place : place + high - low].astype(self.dtype, copy=False))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
        """[n, length] of some integer type: the ids from each of these places on."""
        if len(self.starts) == 1:
            ids, place = self._at(0)
            return np.lib.stride_tricks.sliding_window_view(ids, length)[place + starts]
        first, last = self._extent(starts), self._extent(starts + length - 1)
        place, within = self.places[first], first == last
        inside = starts - self.starts[first]
        found = np.empty((len(starts), length), np.int32)
        for ids, chosen, at in (
            (self.own, within & (place < 0), -1 - place + inside),
            (self.elsewhere, within & (place >= 0), place + inside),
        ):
            if chosen.any():
                found[chosen] = np.lib.stride_tricks.sliding_window_view(ids, length)[at[chosen]]
        for row in np.flatnonzero(~within):
            found[row] = self.read(int(starts[row]), int(starts[row]) + length)
        return found

    def _at(self, extent: int) -> tuple[np.ndarray, int]:
        place = int(self.places[extent])
        return (self.own, -1 - place) if place < 0 else (self.elsewhere, place)

    def _extent(self, positions: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.starts, positions, side="right") - 1


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
        self._tokens: dict[int, ShardTokens] = {}
        self._packings: dict[int, Packing] = {}

    def column(self, name: str, shard: int) -> np.ndarray:
        """One column (LOSS or of COLUMNS) of one shard, as a read-only memory map."""
        if (name, shard) not in self._maps:
            path = self._folders[shard] / f"{self._split}.{name}"
            dtype = np.dtype(np.uint8 if name == LOSS else COLUMNS[name])
            self._maps[name, shard] = mapped(path, dtype, random=name == LOSS)
        return self._maps[name, shard]

    def tokens(self, shard: int) -> ShardTokens:
        """The ids of one shard."""
        if shard not in self._tokens:
            self._tokens[shard] = shard_tokens(self._folders[shard], self._split, self._dtype)
        return self._tokens[shard]

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
            high = stop if shard == last else int(self.starts[shard + 1])
            found.append(self._part(name, shard, max(0, start - offset), high - offset))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _part(self, name: str, shard: int, start: int, stop: int) -> np.ndarray:
        if name == "tokens":
            return self.tokens(shard).read(start, stop)
        return self.column(name, shard)[start:stop]

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


def shard_tokens(folder: Path, split: str, dtype: np.dtype) -> ShardTokens:
    """The ids of a split of a finished shard, which has some.

    Raises UserError where what says where they lie is damaged.
    """
    dtype = dtype.newbyteorder("<")
    path, extents = folder / f"{split}.tokens", folder / f"{split}.{EXTENTS}"
    own = mapped(path, dtype, random=True) if path.exists() else np.empty(0, dtype)
    if not extents.exists():
        return ShardTokens(dtype, own, own[:0], np.zeros(1, np.int64), np.full(1, -1))
    file, there = in_place(folder)
    elsewhere = mapped(file, np.dtype(there.dtype), random=True, offset=there.offset)
    elsewhere = elsewhere[: there.ids]
    starts, places = mapped(extents, np.dtype("<i8")).reshape(-1, 2).T
    last = np.where(places < 0, -1 - places, places) + np.diff(starts, append=starts[-1:] + 1)
    held = np.where(places < 0, len(own), len(elsewhere))
    if starts[0] != 0 or (np.diff(starts) < 1).any() or ((last > held) | (last < 1)).any():
        raise UserError(f"{extents} is damaged; delete {folder} and prepare again")
    return ShardTokens(dtype, own, elsewhere, starts, places)


def mapped(path: Path, dtype: np.dtype, *, random: bool = False, offset: int = 0) -> np.ndarray:
    """A read-only memory map as a plain array, from a byte on; read at `random` places or not."""
    with path.open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # Rows are drawn in random order: reading ahead would only push other pages out.
    if random and hasattr(mmap, "MADV_RANDOM"):
        pages.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(pages, dtype, offset=offset)
