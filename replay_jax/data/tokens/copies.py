"""Exact copies between documents: counted for every pair of sources, and left out if asked.

Documents are compared by the 64-bit hash of their content that stores keep, in ranges of it, so
that memory is bounded whatever the sizes.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from replay_jax.data.sources.durable import claimed, read_only_allowed, write_durably
from replay_jax.data.tokens.columns import mapped, shard_tokens
from replay_jax.data.tokens.manifest import (
    COLUMNS,
    LOSS,
    MANIFEST_NAME,
    SPLITS,
    read_shard_manifest,
)
from replay_jax.data.tokens.shards import shard_path
from replay_jax.data.tokens.store import TokenStore
from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.data.tokens.writer import ShardWriter, into_place
from replay_jax.errors import UserError
from replay_jax.progress import step_by_step
from replay_jax.strict import from_plain

# Documents looked at together: 8 bytes each, sorted copies included some hundred megabytes.
_AT_ONCE = 1 << 23
Group = tuple[str, str]


@dataclass(frozen=True)
class Copies:
    """How many `documents` of one split stand, word for word, in another.

    Where both are the same split: how many are a second or later copy. of: all its documents.
    """

    source: str
    split: str
    other: str
    other_split: str
    documents: int
    of: int

    @property
    def sentence(self) -> str:
        """For people."""
        what = f"{self.documents:,} of {self.of:,} {_words(self.split)} documents of {self.source}"
        if (self.source, self.split) == (self.other, self.other_split):
            return f"{what} are repeated ones"
        return f"{what} stand in the {_words(self.other_split)} text of {self.other}"


def count_copies(hashes: Mapping[Group, Sequence[np.ndarray]]) -> list[Copies]:
    """Copies within and between groups, given the hashes of each in any number of arrays.

    Only pairs that have some.
    """
    total = {group: sum(map(len, arrays)) for group, arrays in hashes.items()}
    found: dict[tuple[Group, Group], int] = {}
    for low, high in step_by_step(list(_ranges(sum(total.values()))), "counting copies"):
        own = {g: np.unique(_within(a, low, high), return_counts=True) for g, a in hashes.items()}
        for group, (values, counts) in own.items():
            for other, (others, _) in own.items():
                same = group == other
                shared = counts - 1 if same else counts[np.isin(values, others, kind="sort")]
                found[group, other] = found.get((group, other), 0) + int(shared.sum())
    return [
        Copies(*group, *other, documents, total[group])
        for (group, other), documents in found.items()
        if documents
    ]


def find_copies(stores: Mapping[str, TokenStore]) -> list[Copies]:
    """Copies between all splits of stores; kept beside them, as counting reads all hashes."""
    identities = "".join(sorted(store.manifest.identity for store in stores.values()))
    name = hashlib.sha256(identities.encode()).hexdigest()[:16]
    path = next(iter(stores.values())).path.parent / f"copies-{name}.json"
    try:
        known = json.loads(path.read_bytes())
        return [from_plain(Copies, copies, path=path.name) for copies in known]
    except (FileNotFoundError, ValueError, TypeError, RecursionError):  # none, or a damaged one
        pass
    groups = [(name, split) for name in stores for split in SPLITS]
    found = count_copies({(name, split): stores[name].hashes(split) for name, split in groups})
    with read_only_allowed():
        write_durably(path, json.dumps([asdict(copies) for copies in found], indent=1) + "\n")
    return found


def check_held_out(copies: Sequence[Copies]) -> None:
    """Raise UserError where a held-out document of one source is in another's training text.

    Within a source this cannot happen; between sources it cannot where both hold out the
    same fraction.
    """
    for found in copies:
        if (found.split, found.other_split) == ("validation", "train"):
            raise UserError(
                f"{found.documents} held-out documents of {found.source!r} are training documents "
                f"of {found.other!r}; give both the same validation_fraction, set "
                "data.drop_copies='of_target' where the first is the target, or remove them"
            )


def copies_of(arrays: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> list[np.ndarray]:
    """bool[documents] for each array: which of its hashes are in any of the others."""
    known = np.unique(np.concatenate([*others, np.empty(0, np.uint64)]))
    return [np.isin(array, known, kind="sort") for array in arrays]


def repeats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """bool[documents] for each array: which of its hashes came before, in it or in one before."""
    found = [np.zeros(len(array), bool) for array in arrays]
    starts = np.cumsum([0, *map(len, arrays)])
    for low, high in _ranges(int(starts[-1])):
        places = [np.flatnonzero(_is_within(array, low, high)) for array in arrays]
        values = np.concatenate([a[p] for a, p in zip(arrays, places, strict=True)])
        where = np.concatenate([p + s for p, s in zip(places, starts[:-1], strict=True)])
        order = np.argsort(values, kind="stable")
        again = order[1:][values[order[1:]] == values[order[:-1]]]
        for number, start in enumerate(starts[:-1]):
            mine = where[again]
            mine = mine[(mine >= start) & (mine < starts[number + 1])]
            found[number][mine - start] = True
    return found


def drop_copies(
    shards: Sequence[Path],
    others: Sequence[np.ndarray],
    tokenizer: Tokenizer,
    store_dir: Path,
    *,
    repeated: bool,
) -> list[Path]:
    """The shards of a source without the training documents whose hashes are in `others`.

    With `repeated`, those that came before in the source are left out as well. A shard that
    loses some is copied without them; the one with all of them stays for other stores.
    """
    hashes = [shard_hashes(shard, "train") for shard in shards]
    left_out = copies_of(hashes, others)
    if repeated:
        again = repeats(hashes)
        left_out = [one | other for one, other in zip(left_out, again, strict=True)]
    return [
        _without(shard, out, tokenizer, store_dir)
        for shard, out in zip(shards, left_out, strict=True)
    ]


def _without(shard: Path, left_out: np.ndarray, tokenizer: Tokenizer, store_dir: Path) -> Path:
    """The shard without some training documents (bool[documents]), copied but for those."""
    if not left_out.any():
        return shard
    manifest = read_shard_manifest(shard)
    key = hashlib.sha256(manifest.key.encode() + np.packbits(left_out).tobytes()).hexdigest()
    finished = shard_path(store_dir, key)
    partial = finished.with_name(f"{finished.name}.partial")
    with claimed(partial, finished / MANIFEST_NAME, wait=True) as mine:
        if mine:
            with closing(ShardWriter(partial, tokenizer)) as writer:
                writer.empty, writer.bad = manifest.empty, manifest.bad
                writer.first_bad = manifest.first_bad
                for split, counts in manifest.splits.items():
                    if counts.documents:
                        _copy(shard, split, left_out, writer, np.dtype(manifest.dtype))
                writer.finish(key, copies=int(left_out.sum()))
            into_place(partial, finished)
    return finished


def shard_hashes(shard: Path, split: str) -> np.ndarray:
    """uint64[documents] of a split of a finished shard."""
    path = shard / f"{split}.hashes"
    return mapped(path, np.dtype("<u8")) if path.exists() else np.empty(0, np.uint64)


def _copy(
    shard: Path, split: str, left_out: np.ndarray, writer: ShardWriter, dtype: np.dtype
) -> None:
    ends, hashes, sizes = (
        mapped(shard / f"{split}.{column}", np.dtype(kind)) for column, kind in COLUMNS.items()
    )
    tokens = shard_tokens(shard, split, dtype)
    masked = (shard / f"{split}.{LOSS}").exists()
    loss = mapped(shard / f"{split}.{LOSS}", np.dtype(np.uint8)) if masked else None
    first = start = 0
    while first < len(ends):
        last = max(first + 1, int(np.searchsorted(ends, start + _AT_ONCE, side="right")))
        lengths = np.diff(ends[first:last], prepend=start)
        keep = np.ones(last - first, bool) if split != "train" else ~left_out[first:last]
        if keep.any():
            kept = np.repeat(keep, lengths)
            ids = tokens.read(start, int(ends[last - 1]))[kept]
            own, size = (values[first:last][keep] for values in (hashes, sizes))
            counted = None if loss is None else loss[start : ends[last - 1]][kept]
            writer.add(split, ids, lengths[keep], own, size, counted)
        first, start = last, int(ends[last - 1])


def _ranges(documents: int) -> Iterator[tuple[int, int]]:
    """Equal ranges [low, high] of hashes with about `_AT_ONCE` documents each."""
    count = -(-documents // _AT_ONCE) or 1
    borders = [2**64 * number // count for number in range(count + 1)]
    for low, high in zip(borders[:-1], borders[1:], strict=True):
        yield low, high - 1


def _is_within(array: np.ndarray, low: int, high: int) -> np.ndarray:
    return (array >= np.uint64(low)) & (array <= np.uint64(high))


def _within(arrays: Sequence[np.ndarray], low: int, high: int) -> np.ndarray:
    found = [array[_is_within(array, low, high)] for array in arrays]
    return np.concatenate([*found, np.empty(0, np.uint64)])


def _words(split: str) -> str:
    return "training" if split == "train" else "held-out"
