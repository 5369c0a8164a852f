"""Token stores: rows tile the tokens, segments follow documents, damage is noticed."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_store import make_store

from replay_jax.data.sources.documents import Document
from replay_jax.data.tokens.manifest import MANIFEST_NAME, write_manifest
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.data.tokens.writer import StoreWriter, token_dtype
from replay_jax.errors import UserError


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    seq_len=st.integers(1, 7),
)
def test_rows_tile_the_tokens_and_segments_follow_documents(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seq_len: int
) -> None:
    path = tmp_path_factory.mktemp("stores") / "store"
    documents = [list(range(10 * i, 10 * i + n)) for i, n in enumerate(lengths)]
    store = make_store(path, documents, [[1]])
    stream = [token for ids in documents for token in (*ids, 299)]
    owner = [i for i, ids in enumerate(documents) for _ in range(len(ids) + 1)]
    assert store.tokens("train").tolist() == stream
    assert store.documents("train").tolist() == np.cumsum([n + 1 for n in lengths]).tolist()
    if len(stream) <= seq_len:
        assert store.row_count("train", seq_len) == 0
        with pytest.raises(UserError, match=f"{len(stream)} tokens .* one sequence of {seq_len}"):
            store.rows("train", seq_len)
        return
    rows = store.rows("train", seq_len)
    everything = np.arange(len(rows))
    labels = np.concatenate([rows[i][1:] for i in everything])
    # Every token but the first is a label exactly once, up to an end shorter than a row.
    assert labels.tolist() == stream[1 : len(rows) * seq_len + 1]
    assert len(stream) - 1 - len(labels) < seq_len
    backwards = everything[::-1].copy()
    assert np.array_equal(rows.gather(backwards), np.stack([rows[i] for i in backwards]))
    assert rows[0].dtype == rows.gather(everything).dtype == np.int32
    sums = [sum(t % 5 for t in rows[i][1:].tolist()) for i in everything]
    assert rows.label_bytes(everything).tolist() == sums
    for i, segments in zip(everything, rows.segments(everything), strict=True):
        owners = owner[i * seq_len : (i + 1) * seq_len]
        assert segments.tolist() == [1 + o - owners[0] for o in owners]


def test_rows_outside_the_split_are_refused(tmp_path: Path) -> None:
    rows = make_store(tmp_path / "store", [[1] * 20], [[2] * 20]).rows("train", 5)
    assert len(rows) == 4
    for row in (-1, 4):
        with pytest.raises(IndexError, match=f"row {row} outside"):
            rows[row]
        with pytest.raises(IndexError):
            rows.gather(np.array([0, row]))


def test_splits_are_separate_and_counted(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", [[1, 2], [3]], [[4, 4, 4]])
    assert store.tokens("train").tolist() == [1, 2, 299, 3, 299]
    assert store.tokens("validation").tolist() == [4, 4, 4, 299]
    counts = store.manifest.splits["train"]
    assert (counts.documents, counts.tokens, counts.text_bytes) == (2, 5, 14)
    assert counts.token_bytes == 1 + 2 + 4 + 3 + 4
    assert store.bytes_per_token("train") == 14 / 5
    assert [h.tolist() for h in store.hashes("train")] == [[0, 1]]


def test_dtype_is_the_narrowest_that_holds_the_vocabulary(tmp_path: Path) -> None:
    assert [token_dtype(n) for n in (257, 2**16, 2**16 + 1)] == ["uint16", "uint16", "uint32"]
    with pytest.raises(UserError, match="does not fit 32-bit rows"):
        token_dtype(2**31 + 1)
    for vocab_size, width in ((2**16, 2), (2**16 + 1, 4)):
        store = make_store(tmp_path / str(vocab_size), [[vocab_size - 2] * 6], [[1]], vocab_size)
        assert store.tokens("train").itemsize == width
        assert store.rows("train", 6)[0].tolist() == [vocab_size - 2] * 6 + [vocab_size - 1]


def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="token id 300 does not fit the vocabulary of 300"):
        make_store(tmp_path / "store", [[300]], [[1]])


def test_fingerprint_is_of_the_tokens_not_of_the_place(tmp_path: Path) -> None:
    one = make_store(tmp_path / "one", [[1, 2], [3]], [[4]])
    same = make_store(tmp_path / "same", [[1, 2], [3]], [[4]])
    moved = make_store(tmp_path / "moved", [[1, 2, 3]], [[4]])
    wider = make_store(tmp_path / "wider", [[1, 2], [3]], [[4]], 301)
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, moved.fingerprint, wider.fingerprint}) == 3


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    make_store(path, [[1] * 50], [[2] * 50])
    tokens = tmp_path / "store.shard" / "train.tokens"
    whole = tokens.read_bytes()

    tokens.write_bytes(whole[:-2])
    with pytest.raises(UserError, match="train.tokens has 100 bytes where its manifest says 102"):
        TokenStore.open(path)

    tokens.write_bytes(whole[:40] + b"\x07" + whole[41:])
    TokenStore.open(path)  # sizes agree: only checksums can tell
    (wrong,) = check_store(path)
    assert "train.tokens was altered" in wrong

    tokens.unlink()
    with pytest.raises(UserError, match="train.tokens is missing"):
        TokenStore.open(path)
    tokens.write_bytes(whole)
    assert check_store(path) == []

    manifest = (path / MANIFEST_NAME).read_text(encoding="utf-8")
    for text, message in (
        (manifest[:-20], "is damaged"),
        (manifest.replace('"format": 2', '"format": 99'), "store format 99"),
        ("{}", "is damaged"),
    ):
        (path / MANIFEST_NAME).write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            TokenStore.open(path)
    (path / MANIFEST_NAME).unlink()
    with pytest.raises(UserError, match="not a finished token store"):
        TokenStore.open(path)


def test_a_store_from_another_tokenizer_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path / "store", [[1]], [[2]])
    TokenStore.open(tmp_path / "store", tokenizer="wide 300")
    with pytest.raises(UserError, match="prepared with tokenizer wide 300…, not another"):
        TokenStore.open(tmp_path / "store", tokenizer="another")


def test_a_store_carries_its_tokenizer(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store", byte_tokenizer())
    document = Document("hé", 3, 1, False)
    writer.append([(document, True)], [byte_tokenizer().encode(document.text)])
    writer.finish(source="s", kind="text", identity="", inputs="")
    store = TokenStore.open(tmp_path / "store")
    assert store.tokenizer.decode(store.tokens("train").tolist()) == "hé"
    assert store.byte_lengths.tolist() == [1] * 256 + [0]
    assert len(store.tokens("validation")) == 0


def test_a_store_far_larger_than_memory_is_read_in_place(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = make_store(path, [[1] * 50], [[2] * 50])
    tokens = 2**37  # 256 GiB of uint16 ids, all holes but the last 1025
    with (tmp_path / "store.shard" / "train.tokens").open("r+b") as file:
        file.truncate(2 * tokens)
        file.seek(-2 * 1025, os.SEEK_END)
        file.write(np.full(1025, 7, "<u2").tobytes())
    stored = json.loads((path / MANIFEST_NAME).read_text(encoding="utf-8"))
    del stored["checksum"]
    stored["splits"]["train"]["tokens"] = tokens
    stored["shards"][0]["splits"]["train"]["tokens"] = tokens
    (path / MANIFEST_NAME).write_text(json.dumps(stored), encoding="utf-8")
    rows = TokenStore.open(path).rows("train", 1024)
    assert len(rows) == 2**27 - 1
    assert rows[len(rows) - 1].tolist() == [0] * 1023 + [7] * 2
    assert rows.gather(np.array([3, len(rows) - 1])).shape == (2, 1025)
    assert len(pickle.dumps(rows)) < 1000, "pickling must not copy the tokens"
    assert len(pickle.loads(pickle.dumps(rows))) == len(rows)
    write_manifest(path, store.manifest)
    with pytest.raises(UserError, match="has 274877906944 bytes"):
        TokenStore.open(path)
