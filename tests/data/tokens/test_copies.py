"""Exact copies: counted for every pair of sources and splits, and left out where asked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpora import BYTES, prose, sources, texts_of

from replay_jax.data.sources.documents import document_hash, held_out_below
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens import copies as copies_module
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.copies import copies_of, count_copies, find_copies, repeats
from replay_jax.data.tokens.prepare import prepare
from replay_jax.data.tokens.store import check_store
from replay_jax.errors import UserError

TARGET = [prose(i) for i in range(1000, 1040)]
OWN = [prose(i) for i in range(60)]


def make(folder: Path, generic: list[str], **changes: object) -> DataConfig:
    values = sources(folder, generic, TARGET)
    return DataConfig(tokenizer=BYTES, **{**values, **changes})


@pytest.mark.parametrize("at_once", [1 << 23, 50])
def test_counts_are_those_of_sets(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one range of hashes as in many."""
    monkeypatch.setattr(copies_module, "_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 2**64, 300, dtype=np.uint64)
    groups = {
        (name, split): [rng.choice(pool, n) for n in sizes]
        for name, split, sizes in (
            ("web", "train", (200, 0, 150)),
            ("web", "validation", (30,)),
            ("code", "train", (90, 10)),
        )
    }
    found = {((c.source, c.split), (c.other, c.other_split)): c for c in count_copies(groups)}
    for group, arrays in groups.items():
        mine = np.concatenate(arrays).tolist()
        for other, others in groups.items():
            theirs = set(np.concatenate(others).tolist())
            shared = sum(h in theirs for h in mine)
            expected = len(mine) - len(set(mine)) if group == other else shared
            copies = found.pop((group, other), None)
            assert (copies.documents if copies else 0) == expected
            assert copies is None or copies.of == len(mine)
        seen: set[int] = set()
        for array, again in zip(arrays, repeats(arrays), strict=True):
            for hashed, repeated in zip(array.tolist(), again.tolist(), strict=True):
                assert repeated == (hashed in seen)
                seen.add(hashed)
    assert not found
    (marked,) = copies_of(groups["code", "train"][:1], groups["web", "validation"])
    held = set(groups["web", "validation"][0].tolist())
    assert marked.tolist() == [h in held for h in groups["code", "train"][0].tolist()]


def test_copies_are_told_and_left_out_by_policy(tmp_path: Path) -> None:
    """Target text within generic text is what an experiment on target data must know of."""
    generic = [*OWN, *TARGET[:15], *OWN[:4]]
    data = make(tmp_path, generic)
    kept = prepare(data)["generic"]
    stores = prepare(data)
    sentences = [copies.sentence for copies in find_copies(stores)]
    train = [t for t in TARGET[:15] if document_hash(t.encode()) >= held_out_below(0.2)]
    total = kept.manifest.splits["train"].documents
    assert (
        f"{len(train)} of {total} training documents of generic stand in the training text of "
        "target" in sentences
    )
    again = [t for t in OWN[:4] if document_hash(t.encode()) >= held_out_below(0.2)]
    assert f"{len(again)} of {total} training documents of generic are repeated ones" in sentences

    without = prepare(replace(data, drop_copies="of_target"))
    expected = [t for t in texts_of(kept, "train") if t not in TARGET]
    assert texts_of(without["generic"], "train") == expected
    assert without["generic"].manifest.copies == len(train)
    assert texts_of(without["generic"], "validation") == texts_of(kept, "validation")
    assert without["target"].path == stores["target"].path
    distinct = prepare(replace(data, drop_copies="all"))
    assert texts_of(distinct["generic"], "train") == list(dict.fromkeys(expected))
    assert len({store["generic"].path for store in (stores, without, distinct)}) == 3
    for store in (without["generic"], distinct["generic"]):
        assert check_store(store.path) == []
        counts = store.manifest.splits["train"]
        assert counts.text_bytes == counts.token_bytes
        assert counts.text_bytes == sum(len(t.encode()) for t in texts_of(store, "train"))
    assert prepare(data)["generic"].path == kept.path


def test_held_out_target_text_can_be_left_out_where_fractions_differ(tmp_path: Path) -> None:
    data = make(tmp_path, [*OWN, *TARGET])
    target = replace(data.sources[1][1], validation_fraction=0.5)
    data = replace(data, sources=(data.sources[0], ("target", target)))
    with pytest.raises(UserError, match="set data.drop_copies='of_target'"):
        prepare(data)
    store = prepare(replace(data, drop_copies="of_target"))["generic"]
    assert not set(texts_of(store, "train")) & set(TARGET)


def test_unknown_policies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'some' is not one of none, of_target, all"):
        make(tmp_path, OWN, drop_copies="some")
    with pytest.raises(UserError, match="'skip' is not one of refuse, pass_over"):
        SourceConfig("jsonl", "x", bad_documents="skip")
