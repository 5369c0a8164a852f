"""Files of token ids are read where they lie, and give the stores that their text gives."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpora import BYTES, HELD_OUT, prose, sources, texts_of, write_lines
from token_files import write_megatron, write_npy

from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.bpe_training import train_bpe
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.copies import find_copies
from replay_jax.data.tokens.encode import marks_of
from replay_jax.data.tokens.prepare import find_stores, prepare
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.data.tokens.tokenizer import Tokenizer, load_tokenizer
from replay_jax.errors import UserError

GENERIC = [prose(i) for i in range(60)]
TARGET = [prose(i) for i in range(1000, 1030)]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level BPE with a token that begins a document."""
    tokenizer = train_bpe([*GENERIC, *TARGET, "größe ß €"], 400)
    assert tokenizer.model is not None
    tokenizer.model.add_special_tokens(["<begin>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.model.save(str(path))
    return path


def of_text(folder: Path, tokenizer: TokenizerConfig = BYTES, **changes: object) -> DataConfig:
    return DataConfig(tokenizer=tokenizer, **{**sources(folder, GENERIC, TARGET), **changes})


def with_generic(data: DataConfig, source: SourceConfig, **changes: object) -> DataConfig:
    return replace(data, sources=(("generic", source), data.sources[1]), **changes)


def ids_of(text: str, tokenizer: Tokenizer) -> list[int]:
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return [*begin, *tokenizer.encode(text).tolist(), tokenizer.eos_id]


def bytes_below(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


def assert_same(one: TokenStore, other: TokenStore) -> None:
    assert one.fingerprint == other.fingerprint
    assert one.manifest.splits == other.manifest.splits
    for split in ("train", "validation"):
        assert np.array_equal(one.documents(split), other.documents(split))
        assert [h.tolist() for h in one.hashes(split)] == [h.tolist() for h in other.hashes(split)]
        for seq_len in (5, 200):
            rows, others = one.rows(split, seq_len), other.rows(split, seq_len)
            order = np.random.default_rng(0).permutation(len(rows))
            assert np.array_equal(rows.gather(order), others.gather(order))
            assert np.array_equal(rows.segments(order), others.segments(order))
            assert np.array_equal(rows[len(rows) - 1], others[len(rows) - 1])
    assert check_store(one.path) == [] == check_store(other.path)


@pytest.mark.parametrize("kind,begins", [("megatron", ""), ("npy", "<begin>"), ("rows", "<begin>")])
def test_ids_give_the_store_of_their_text_without_a_copy(
    kind: str, begins: str, tokenizer_file: Path, tmp_path: Path
) -> None:
    """The same sides, tokens, hashes and counts, and not one id written."""
    config = TokenizerConfig("file", str(tokenizer_file), bos_token=begins)
    data, tokenizer = of_text(tmp_path, config), load_tokenizer(config)
    documents = [ids_of(text, tokenizer) for text in GENERIC]
    if kind == "megatron":
        path = write_megatron(tmp_path / "ids", [[d[:9], d[9:]] for d in documents], "i4")
    elif kind == "npy":
        path = write_npy(tmp_path / "ids.npy", [i for d in documents for i in d])
    else:  # filled up with end-of-text ids
        longest = max(map(len, documents))
        rows = [d + [tokenizer.eos_id] * (longest - len(d)) for d in documents]
        path = write_npy(tmp_path / "ids.npy", rows, ">i8")
    source = SourceConfig("megatron" if kind == "megatron" else "npy", str(path),
                          validation_fraction=HELD_OUT)  # fmt: skip
    stores = tmp_path / "of_ids"
    of_ids = with_generic(data, source, store_dir=str(stores))
    lying = prepare(of_ids)
    planned = find_stores(of_ids)["generic"]
    assert planned is not None and planned.path == lying["generic"].path
    assert bytes_below(stores / "shards", "*.extents") > 0
    assert bytes_below(stores / "shards", "*.tokens") == sum(
        lying["target"].manifest.splits[split].tokens * 2 for split in ("train", "validation")
    )
    assert_same(lying["generic"], prepare(data)["generic"])
    assert not [c for c in find_copies(lying) if c.source != c.other]


def test_ids_that_do_not_lie_as_a_shard_needs_them_are_written(tmp_path: Path) -> None:
    """Without end-of-text all are copied; begun with it, as some write them, the last alone."""
    data = of_text(tmp_path)
    expected = prepare(data)["generic"]
    documents = [list(text.encode()) for text in GENERIC]
    bare = write_megatron(tmp_path / "bare", [[d] for d in documents], "i8")
    begun = write_npy(tmp_path / "begun.npy", [i for d in documents for i in (256, *d)])
    for path, kind in ((bare, "megatron"), (begun, "npy")):
        source = SourceConfig(kind, str(path), validation_fraction=HELD_OUT)
        folder = tmp_path / f"stores-{kind}"
        store = prepare(with_generic(data, source, store_dir=str(folder)))["generic"]
        assert_same(store, expected)
        (shard,) = store.manifest.shards
        written = bytes_below(store.path / shard.folder, "*.tokens") // 2
        assert written == (sum(len(d) + 1 for d in documents) if kind == "megatron" else
                           len(documents[-1]) + 1)  # fmt: skip
        assert bool(bytes_below(store.path / shard.folder, "*.extents")) == (kind == "npy")


def test_what_is_held_out_in_a_file_of_its_own_and_copies_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    parts = [[*GENERIC[:40], *TARGET[:9]], GENERIC[40:]]
    for number, part in enumerate(parts):
        write_megatron(folder / f"{number}", [[[*t.encode(), 256]] for t in part], "i2")
    held_out = write_megatron(tmp_path / "held", [[[*prose(5000).encode(), 256]]])
    ids = SourceConfig("megatron", str(folder), validation_fraction=0.0,
                       validation_path=str(held_out))  # fmt: skip
    data = with_generic(of_text(tmp_path), ids, drop_copies="of_target")
    store = prepare(data)["generic"]
    assert texts_of(store, "train") == GENERIC
    assert texts_of(store, "validation") == [prose(5000)]
    assert store.manifest.copies == 9 and check_store(store.path) == []
    assert len(store.manifest.shards) == 3
    assert_same(store, prepare(data)["generic"])
    planned = find_stores(data)["generic"]
    assert planned is not None and planned.path == store.path


def test_a_file_that_moves_is_found_again_and_one_that_changes_is_another(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "ids.npy", [i for t in GENERIC for i in (*t.encode(), 256)])
    data = with_generic(of_text(tmp_path), SourceConfig("npy", str(path)))
    store = prepare(data)["generic"]
    shard = store.path / store.manifest.shards[0].folder
    before = {p.name: p.stat().st_mtime_ns for p in shard.iterdir()}
    moved = path.rename(tmp_path / "elsewhere.npy")
    with pytest.raises(UserError, match=r"ids\.npy is missing"):
        TokenStore.open(store.path)
    again = prepare(with_generic(data, SourceConfig("npy", str(moved))))["generic"]
    assert again.path == store.path and check_store(again.path) == []
    now = {p.name: p.stat().st_mtime_ns for p in shard.iterdir()}
    assert {name for name in now if now[name] != before[name]} == {"place.json"}
    with moved.open("r+b") as file:
        file.seek(-60, 2)
        file.write(b"\1\0")
    assert any("was altered" in line for line in check_store(again.path))
    changed = prepare(with_generic(data, SourceConfig("npy", str(moved))))["generic"]
    assert changed.fingerprint != store.fingerprint and check_store(changed.path) == []
    with moved.open("r+b") as file:
        file.truncate(moved.stat().st_size - 2)
    with pytest.raises(UserError, match=r"elsewhere\.npy has \d+ bytes where it had \d+"):
        TokenStore.open(changed.path)


def test_damage_to_what_says_where_ids_lie_is_one_sentence(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "ids.npy", [i for t in GENERIC for i in (*t.encode(), 256)])
    store = prepare(with_generic(of_text(tmp_path), SourceConfig("npy", str(path))))["generic"]
    shard = (store.path / store.manifest.shards[0].folder).resolve()
    for name, value, message in (
        ("in_place.json", b'{"dtype": "<f8"', "in_place.json or its place.json is damaged"),
        ("in_place.json", b"{" * 15, "in_place.json or its place.json is damaged"),
        ("train.extents", b"\xff" * 8, "train.extents is damaged"),
        ("train.extents", bytes(8) + b"\1" * 8, "train.extents is damaged"),
        ("train.extents", bytes(31) + b"\x70", "train.extents is damaged"),
        ("place.json", b'{"files": []', "place.json cannot be read"),
    ):
        good = (shard / name).read_bytes()
        (shard / name).write_bytes(value + good[len(value) :])
        with pytest.raises(UserError, match=message):
            TokenStore.open(store.path).rows("train", 7).gather(np.arange(9))
        assert check_store(store.path)
        (shard / name).write_bytes(good)
    assert check_store(store.path) == []


def test_a_tokenizer_must_be_named_and_must_be_the_one(tmp_path: Path) -> None:
    path = write_npy(tmp_path / "ids.npy", [5, 6, 256, 7, 257, 256, 8, 9, 256], "<i4")
    source = SourceConfig("npy", str(path), validation_fraction=0.5)
    data = with_generic(of_text(tmp_path), source)
    with pytest.raises(UserError, match=r"ids\.npy: token 4 is 257, and .* ids 0 to 256"):
        prepare(data)
    write_npy(path, [5, 6, 256, -1, 256], "<i4")
    with pytest.raises(UserError, match="token 3 is -1"):
        prepare(data)
    assert find_stores(data)["generic"] is None
    with pytest.raises(UserError, match="'generic' is token ids already"):
        replace(data, tokenizer=TokenizerConfig("bpe"))
    with pytest.raises(UserError, match="max_documents is not for kind 'npy'"):
        SourceConfig("npy", "x", max_documents=3)


def test_the_text_of_ids_is_that_of_the_library(tokenizer_file: Path, tmp_path: Path) -> None:
    """Every id of a byte-level vocabulary, and of one with marks for spaces."""
    byte_level = load_tokenizer(TokenizerConfig("file", str(tokenizer_file)))
    text = " ".join([*GENERIC[:5], "größe ß € \n\t 数"])
    text_of = marks_of(byte_level).text
    assert text_of(byte_level.encode(text)) == text.encode()
    lengths = [len(text_of(np.array([token]))) for token in range(byte_level.vocab_size)]
    assert lengths == byte_level.byte_lengths.tolist()
    described = json.loads(tokenizer_file.read_text())
    vocabulary = {"<unk>": 0, "</s>": 1, "▁": 2, "a": 3, "b": 4}
    described |= {"pre_tokenizer": None, "post_processor": None, "added_tokens": []}
    described["model"] |= {"vocab": vocabulary, "merges": []}
    described["decoder"] = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    path = tmp_path / "marks.json"
    path.write_text(json.dumps(described))
    marked = load_tokenizer(TokenizerConfig("file", str(path), eos_token="</s>"))
    assert marks_of(marked).text(np.array([3, 2, 4])) == b"a b"


def test_text_and_ids_hold_out_the_same(tmp_path: Path) -> None:
    """Copies are found between the two kinds."""
    write_lines(tmp_path / "some.jsonl", TARGET[:10])
    path = write_npy(tmp_path / "ids.npy",
                     [i for t in (*GENERIC, *TARGET) for i in (*t.encode(), 256)])  # fmt: skip
    source = SourceConfig("npy", str(path), validation_fraction=HELD_OUT)
    stores = prepare(with_generic(of_text(tmp_path), source))
    counts = {(c.source, c.split, c.other_split): c.documents for c in find_copies(stores)}
    assert sum(n for (source, *_), n in counts.items() if source == "generic") == len(TARGET)
    assert all(split == other for _, split, other in counts)
