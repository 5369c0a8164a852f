"""Near copies: what the library's sketches find is what sets of shingles say."""

import random
from pathlib import Path

import numpy as np
import pytest
from corpora import BYTES, prose, sources

from replay_jax.data.stores import near_copies as module
from replay_jax.data.stores.near_copies import (
    count_near_copies,
    find_near_copies,
    known_near_copies,
    near_sentence,
    shingle_tokens,
    shingles,
    signatures,
)
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.prepare import prepare
from replay_jax.errors import UserError
from replay_jax.library.preparing import Prepared, print_prepared


def edited(text: str, words: int, seed: int) -> str:
    """The text with so many of its words replaced by new ones."""
    rng = random.Random(seed)
    parts = text.split()
    for place in rng.sample(range(len(parts)), words):
        parts[place] = f"word{seed}n{place}"
    return " ".join(parts)


def jaccard(one: str, other: str, window: int) -> float:
    sets = [
        {tuple(data[i : i + window]) for i in range(len(data) - window + 1)}
        for data in (one.encode(), other.encode())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_counts_are_those_of_sets_of_shingles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two words of 300 changed is a near copy, sixty are not; exact ones count."""
    pytest.importorskip("datasketch", reason="the extra 'near-duplicates' is not installed")
    own = [prose(i, words=300) for i in range(12)]
    target = [prose(100 + i, words=300) for i in range(16)]
    near = [edited(text, 2, 7) for text in target[:6]]
    far = [edited(text, 60, 8) for text in target[6:10]]
    generic = [*own, *near, *far, target[10], edited(own[0], 2, 9), own[1]]
    data = DataConfig(tokenizer=BYTES, **sources(tmp_path, generic, target))
    stores = prepare(data)
    window = shingle_tokens(stores)
    assert window == 25
    assert min(jaccard(a, b, window) for a, b in zip(near, target[:6], strict=True)) > 0.9
    assert max(jaccard(a, b, window) for a, b in zip(far, target[6:10], strict=True)) < 0.5
    said: list[str] = []
    assert known_near_copies(stores) is None
    found = find_near_copies(stores, said.append)
    assert len(said) == 4 and "generic, train" in said[0]
    between = {"generic": 0, "target": 0}
    for copies in found:
        if copies.source != copies.other:
            between[copies.source] += copies.documents
    assert between == {"generic": 7, "target": 7}
    # Edited, so it may be on the other side of its source.
    assert sum(c.documents for c in found if c.source == c.other) in (2, 3)
    assert known_near_copies(stores) == found == find_near_copies(stores, said.append)
    assert len(said) == 4
    print_prepared(Prepared(stores, {}, {}))
    sentences = [near_sentence(copies) for copies in found]
    assert capsys.readouterr().out.splitlines()[-len(found) :] == sentences
    assert any("documents of generic are nearly the same as one in the" in s for s in sentences)
    assert any("of generic are nearly the same as one before" in s for s in sentences)


def test_a_page_that_stands_many_times_is_compared_once() -> None:
    pytest.importorskip("datasketch", reason="the extra 'near-duplicates' is not installed")
    page = np.random.default_rng(0).integers(0, 256, 400)
    other = np.random.default_rng(1).integers(0, 256, 400)
    group, second = ("web", "train"), ("code", "train")
    signed = {
        group: signatures(iter([page, *[page] * 40, other]), 42, 25),
        second: signatures(iter([page]), 1, 25),
    }
    index = module._Index(signed)
    assert index.fill(group) == 40 and index.near(group, 30) == [(group, 0)]
    found = {(c.source, c.other): (c.documents, c.of) for c in count_near_copies(signed)}
    assert found == {("web", "web"): (40, 42), ("web", "code"): (41, 42), ("code", "web"): (1, 1)}


@pytest.mark.parametrize("agreeing,near", [(8, False), (102, False), (103, True)])
def test_what_shares_a_band_only_is_no_near_copy(agreeing: int, near: bool) -> None:
    """103 of 128 values is the least that is .8."""
    pytest.importorskip("datasketch", reason="the extra 'near-duplicates' is not installed")
    signed = np.random.default_rng(0).integers(0, 2**32, (2, 128), np.uint32)
    signed[1, :agreeing] = signed[0, :agreeing]
    found = count_near_copies({("web", "train"): signed})
    assert [copies.documents for copies in found] == ([1] if near else [])


def test_shingles_are_runs_in_their_order() -> None:
    ids = np.array([3, 1, 4, 1, 5, 3, 1, 4])
    hashed = shingles(ids, 3)
    assert len(hashed) == 6 and hashed[0] == hashed[5] and len(set(hashed.tolist())) == 5
    assert len(shingles(ids[:2], 3)) == 1 == len(shingles(ids[:0], 3))
    assert shingles(np.array([0, 1]), 3) != shingles(np.array([1, 0]), 3)
    assert shingles(np.array([1]), 3) != shingles(np.array([1, 0]), 3)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasketch", None)
    with pytest.raises(UserError, match=r"pip install 'replay-jax\[near-duplicates\]'"):
        signatures(iter([]), 0, 5)
