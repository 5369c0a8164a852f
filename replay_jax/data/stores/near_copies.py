"""Documents that are nearly the same, counted for every pair of sources and splits.

Two documents are near copies where the sets of their shingles (all runs of so many tokens as stand
for about SHINGLE_BYTES of text) have a Jaccard similarity of THRESHOLD, as estimated by MinHash of
PERMUTATIONS values (Broder 1997; standard error .035 at the threshold). Candidates come from an
index of 16 bands of 8 values: it finds a pair of similarity .8 with probability .95, of .9 with
.9999. Exact copies count as near ones.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.data.sources.durable import read_only_allowed, write_durably
from replay_jax.data.tokens.copies import Copies, Group
from replay_jax.data.tokens.manifest import SPLITS
from replay_jax.data.tokens.store import TokenStore
from replay_jax.extras import needed

THRESHOLD = 0.8
SHINGLE_BYTES = 25  # about five words
PERMUTATIONS = 128
_BANDS = (16, 8)
_SEED = 1
_AT_ONCE = 1 << 16  # shingles
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def find_near_copies(
    stores: Mapping[str, TokenStore], report: Callable[[str], None]
) -> list[Copies]:
    """Near copies within and between all splits of stores; kept beside them.

    `documents` of a split and another have one there that is nearly the same; within a split they
    are nearly the same as one before. All signatures and their index are held in memory. `report`
    is told what is looked at. Raises UserError where the library is not installed.
    """
    known = known_near_copies(stores)
    if known is not None:
        return known
    window = shingle_tokens(stores)
    signed: dict[Group, np.ndarray] = {}
    for name, store in stores.items():
        for split in SPLITS:
            count = store.manifest.splits[split].documents
            report(f"near copies: {count:,} documents of {name}, {split}")
            signed[name, split] = signatures(document_ids(store, split), count, window)
    found = count_near_copies(signed)
    with read_only_allowed():
        write_durably(_path(stores), json.dumps([asdict(c) for c in found], indent=1) + "\n")
    return found


def known_near_copies(stores: Mapping[str, TokenStore]) -> list[Copies] | None:
    """What `find_near_copies` found before; None where it was not asked."""
    try:
        return [Copies(**c) for c in json.loads(_path(stores).read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return None


def near_sentence(found: Copies) -> str:
    """For people."""
    what = f"{found.documents:,} of {found.of:,} {_words(found.split)} documents of {found.source}"
    if (found.source, found.split) == (found.other, found.other_split):
        return f"{what} are nearly the same as one before"
    where = f"the {_words(found.other_split)} text of {found.other}"
    return f"{what} are nearly the same as one in {where}"


def shingle_tokens(stores: Mapping[str, TokenStore]) -> int:
    """Tokens that stand for SHINGLE_BYTES of the text of all stores, at least 1."""
    counts = [c for store in stores.values() for c in store.manifest.splits.values()]
    per_token = sum(c.text_bytes for c in counts) / sum(c.tokens for c in counts)
    return max(1, round(SHINGLE_BYTES / per_token))


def shingles(ids: np.ndarray, window: int) -> np.ndarray:
    """uint32[max(1, n - window + 1)]: a hash of every run of `window` ids; of all where fewer."""
    padded = np.zeros(max(len(ids), window), np.uint64)
    padded[: len(ids)] = ids.astype(np.uint64) + np.uint64(1)
    count = len(padded) - window + 1
    hashed = np.zeros(count, np.uint64)
    for place in range(window):
        hashed = (hashed + padded[place : place + count]) * _FACTOR
        hashed ^= hashed >> np.uint64(29)
    return (hashed >> np.uint64(32)).astype(np.uint32)


def signatures(documents: Iterator[np.ndarray], count: int, window: int) -> np.ndarray:
    """uint32[count, PERMUTATIONS]: the MinHash of each document's shingles."""
    library = _library()
    empty = library.MinHash(PERMUTATIONS, seed=_SEED, hashfunc=int, scheme="affine32")
    found = np.empty((count, PERMUTATIONS), np.uint32)
    for number, ids in enumerate(documents):
        one = empty.copy()
        hashed = shingles(ids, window)
        for first in range(0, len(hashed), _AT_ONCE):
            one.update_batch(hashed[first : first + _AT_ONCE].tolist())
        found[number] = one.hashvalues
    return found


def count_near_copies(signed: Mapping[Group, np.ndarray]) -> list[Copies]:
    """Near copies within and between groups, given the signatures of each; only pairs with some.

    The index has one document of each set of near copies within a group, so that a page which
    stands a million times costs no million comparisons.
    """
    index = _Index(signed)
    again = {group: index.fill(group) for group in signed}
    found: dict[tuple[Group, Group], int] = {}
    for group, values in signed.items():
        if again[group]:
            found[group, group] = again[group]
        for number in range(len(values)):
            for other in {near for near, _ in index.near(group, number)} - {group}:
                found[group, other] = found.get((group, other), 0) + 1
    return [Copies(*g, *o, count, len(signed[g])) for (g, o), count in sorted(found.items())]


class _Index:
    """Documents by (group, number), found again by what is nearly the same."""

    def __init__(self, signed: Mapping[Group, np.ndarray]) -> None:
        library = _library()
        self._signed, self._lean = signed, library.LeanMinHash
        self._index = library.MinHashLSH(THRESHOLD, PERMUTATIONS, params=_BANDS)

    def fill(self, group: Group) -> int:
        """Take in the documents of a group that are like none before; returns how many are."""
        again = 0
        for number in range(len(self._signed[group])):
            if any(near == group for near, _ in self.near(group, number)):
                again += 1
            else:
                self._index.insert((group, number), self._hash(group, number))
        return again

    def near(self, group: Group, number: int) -> list[tuple[Group, int]]:
        """The documents taken in that are nearly the same."""
        own = self._signed[group][number]
        found = self._index.query(self._hash(group, number))
        return [
            (other, place)
            for other, place in found
            if np.count_nonzero(self._signed[other][place] == own) >= THRESHOLD * PERMUTATIONS
        ]

    def _hash(self, group: Group, number: int) -> Any:
        values = self._signed[group][number]
        return self._lean(seed=_SEED, hashvalues=values, scheme="affine32")


def document_ids(store: TokenStore, split: str) -> Iterator[np.ndarray]:
    """The ids of each document, without those that begin and end it, where such do: chat templates
    write their own, and what is cut ends with neither."""
    begin, end, start = store.tokenizer.bos_id, store.manifest.eos_id, 0
    for stop in store.documents(split).tolist():
        ids = store.tokens(split, start, stop)
        yield ids[int(ids[0] == begin) : len(ids) - int(ids[-1] == end)]
        start = stop


def _library() -> Any:
    return needed("datasketch", "near-duplicates", "looking for near copies")


def _path(stores: Mapping[str, TokenStore]) -> Path:
    identities: Sequence[str] = sorted(store.manifest.identity for store in stores.values())
    key = json.dumps([*identities, THRESHOLD, SHINGLE_BYTES, PERMUTATIONS, _BANDS, _SEED])
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return next(iter(stores.values())).path.parent / f"near-copies-{name}.json"


def _words(split: str) -> str:
    return "training" if split == "train" else "held-out"
