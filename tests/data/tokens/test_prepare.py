"""Preparation: once, in pieces that survive a kill, with no document on both sides."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import BYTES, HELD_OUT, files_of, prose, sources, texts_of

from replay_jax.data.sources.documents import document_hash, held_out_below
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.workers import PrepareProgress
from replay_jax.data.tokens import kept, listing, shards
from replay_jax.data.tokens import prepare as prepare_module
from replay_jax.data.tokens import writer as store_writer
from replay_jax.data.tokens.bpe_training import train_bpe
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.pieces import PIECE_CHARACTERS
from replay_jax.data.tokens.prepare import find_stores, prepare
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.data.tokens.tokenizer import END_OF_TEXT
from replay_jax.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    values = sources(tmp_path, [prose(i) for i in range(60)], [prose(i) for i in range(1000, 1030)])
    return DataConfig(tokenizer=BYTES, **values)


def test_every_document_lands_once_on_the_side_its_hash_says(data: DataConfig) -> None:
    assert find_stores(data) == {"generic": None, "target": None}
    stores = prepare(data)
    for name, first, count in (("generic", 0, 60), ("target", 1000, 30)):
        texts = [prose(i) for i in range(first, first + count)]
        held = {t for t in texts if document_hash(t.encode()) < held_out_below(HELD_OUT)}
        assert texts_of(stores[name], "train") == [t for t in texts if t not in held]
        assert texts_of(stores[name], "validation") == [t for t in texts if t in held]
        assert 0 < len(held) < count
        for split in ("train", "validation"):
            counts = stores[name].manifest.splits[split]
            total = sum(len(t.encode()) for t in texts_of(stores[name], split))
            assert counts.text_bytes == counts.token_bytes == total
    found = find_stores(data)
    assert {n: s.path for n, s in found.items() if s} == {n: s.path for n, s in stores.items()}


def test_a_second_call_does_nothing_and_reads_nothing(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(data)
    before = {path: path.stat().st_mtime_ns for path in Path(data.store_dir).rglob("*.tokens")}

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the store was made again")

    for name in ("run_jobs", "write_store", "identify_part"):
        for module in (prepare_module, listing):
            monkeypatch.setattr(module, name, never, raising=False)
    monkeypatch.setattr("replay_jax.data.sources.fingerprints.part_digest", never)
    monkeypatch.setattr("replay_jax.data.tokens.copies.count_copies", never)
    again = prepare(data)
    assert {n: s.fingerprint for n, s in again.items()} == {
        n: s.fingerprint for n, s in first.items()
    }
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_tokenizer_is_opened_once(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of 150,000 tokens takes a second, each time."""
    model = train_bpe([prose(1)] * 9, 270).model
    assert model is not None
    model.save(str(tmp_path / "tokenizer.json"))
    opened: list[object] = []
    for module, name in ((kept, "load_tokenizer"), (kept, "open_tokenizer"),
                         (shards, "open_tokenizer")):  # fmt: skip
        real = getattr(module, name)

        def counted(*given: object, real: Any = real, **more: object) -> object:
            opened.append(given)
            return real(*given, **more)

        monkeypatch.setattr(module, name, counted)
    own = TokenizerConfig("file", path=str(tmp_path / "tokenizer.json"))
    prepare(replace(data, tokenizer=own))
    assert len(opened) == 1


def test_content_decides_not_dates_or_places(data: DataConfig, tmp_path: Path) -> None:
    first = prepare(data)["target"]
    path = Path(data.sources[1][1].path)
    os.utime(path, (1, 1))
    assert prepare(data)["target"].path == first.path

    # An edit that keeps the size, as an editor may.
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("1000 ", "1999 "), encoding="utf-8")
    changed = prepare(data)["target"]
    assert changed.path != first.path and changed.fingerprint != first.fingerprint
    assert check_store(first.path) == []

    moved = path.rename(tmp_path / "elsewhere.jsonl")
    source = SourceConfig("jsonl", str(moved), validation_fraction=HELD_OUT)
    elsewhere = DataConfig(
        (data.sources[0], ("target", source)), BYTES, data.store_dir, "generic", "target"
    )
    assert prepare(elsewhere)["target"].path == changed.path


def test_finished_stores_serve_where_the_text_is_gone(data: DataConfig) -> None:
    first = prepare(data)
    for _, source in data.sources:
        Path(source.path).unlink()
    assert {n: s.path for n, s in prepare(data).items()} == {n: s.path for n, s in first.items()}
    other = DataConfig(
        data.sources, TokenizerConfig("bpe", vocab_size=300), data.store_dir, "generic", "target"
    )
    with pytest.raises(UserError, match="generic.jsonl of source 'generic' is gone"):
        prepare(other)


def test_another_tokenizer_or_fraction_is_another_store(data: DataConfig, tmp_path: Path) -> None:
    first = prepare(data)
    bpe = DataConfig(
        data.sources, TokenizerConfig("bpe", vocab_size=300), data.store_dir, "generic", "target"
    )
    other = prepare(bpe)
    assert all(first[name].path != other[name].path for name in first)
    assert other["generic"].manifest.tokenizer == other["target"].manifest.tokenizer
    for name, split in (("generic", "train"), ("target", "validation")):
        assert texts_of(other[name], split) == texts_of(first[name], split)
        counts = other[name].manifest.splits[split]
        assert counts.text_bytes == counts.token_bytes
        assert counts.tokens < first[name].manifest.splits[split].tokens


def test_tokenizer_never_sees_held_out_documents(tmp_path: Path) -> None:
    texts = [prose(i) for i in range(80)]
    secret = "zqxjkzqxjk"
    # Documents that carry the secret and that the hash holds out.
    held = [f"{secret} {i} {secret}" for i in range(2000)]
    held = [t for t in held if document_hash(t.encode()) < held_out_below(HELD_OUT)][:100]
    values = sources(tmp_path, texts + held, [prose(i) for i in range(500, 540)])
    store = prepare(DataConfig(tokenizer=TokenizerConfig("bpe", vocab_size=330), **values))
    assert store["generic"].manifest.splits["validation"].documents >= 100
    assert len(store["generic"].tokenizer.encode(secret)) == len(secret)
    # The control: in training documents the secret is learned.
    free = [f"{secret} {i} {secret}" for i in range(2000)]
    free = [t for t in free if document_hash(t.encode()) >= held_out_below(HELD_OUT)][:100]
    folder = tmp_path / "control"
    folder.mkdir()
    values = sources(folder, texts + free, [prose(i) for i in range(500, 540)])
    store = prepare(DataConfig(tokenizer=TokenizerConfig("bpe", vocab_size=330), **values))
    assert len(store["generic"].tokenizer.encode(secret)) < len(secret)


def test_train_sources_chooses_what_the_tokenizer_reads(tmp_path: Path) -> None:
    values = sources(
        tmp_path, [prose(i) for i in range(60)], ["ωψχ " * 50 + str(i) for i in range(60)]
    )
    kinds = {
        names: prepare(
            DataConfig(
                tokenizer=TokenizerConfig("bpe", vocab_size=300, train_sources=names), **values
            )
        )["generic"].tokenizer
        for names in ((), ("generic",), ("target",))
    }
    assert len({tokenizer.fingerprint for tokenizer in kinds.values()}) == 3
    assert len(kinds["target",].encode("ωψχ")) < len(kinds["generic",].encode("ωψχ"))


def test_empty_documents_are_counted_and_end_of_text_in_text_is_text(tmp_path: Path) -> None:
    texts = ["", "  \n", *(prose(i) for i in range(40)), f"a {END_OF_TEXT} b"]
    values = sources(tmp_path, texts, [prose(i) for i in range(500, 540)])
    store = prepare(DataConfig(tokenizer=TokenizerConfig("bpe", vocab_size=300), **values))[
        "generic"
    ]
    assert store.manifest.empty == 2
    documents = texts_of(store, "train") + texts_of(store, "validation")
    assert sorted(documents) == sorted(texts[2:])
    for split in ("train", "validation"):
        ends = (store.tokens(split) == store.manifest.eos_id).nonzero()[0] + 1
        assert ends.tolist() == store.documents(split).tolist()


def test_every_document_begins_and_ends_with_its_token(tmp_path: Path) -> None:
    """Marks are tokens of the ledger that stand for no text; all else is as without them."""
    texts = ["x" * 3 * PIECE_CHARACTERS, *(prose(i) for i in range(40))]
    values = sources(tmp_path, texts, [prose(i) for i in range(500, 540)])
    trained = train_bpe([prose(i) for i in range(40)], 300).model
    assert trained is not None
    trained.add_special_tokens(["<|begin|>"])
    trained.save(str(tmp_path / "tokenizer.json"))
    file = TokenizerConfig("file", str(tmp_path / "tokenizer.json"))
    plain, begun = (
        prepare(DataConfig(tokenizer=tokenizer, **values))["generic"]
        for tokenizer in (file, replace(file, bos_token="<|begin|>"))
    )
    for split in ("train", "validation"):
        counts = begun.manifest.splits[split]
        without = plain.manifest.splits[split]
        assert counts.tokens == without.tokens + counts.documents
        assert (counts.text_bytes, counts.token_bytes) == (without.text_bytes, without.token_bytes)
        tokens, ends = begun.tokens(split), begun.documents(split)
        starts = np.array([0, *ends[:-1]])
        assert (tokens == begun.tokenizer.bos_id).nonzero()[0].tolist() == starts.tolist()
        assert (tokens[ends - 1] == begun.manifest.eos_id).all()
        inside = np.delete(tokens, starts)
        assert inside.tolist() == plain.tokens(split).tolist()
    assert begun.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("texts", "changes", "message"),
    [
        (["", " ", "\n"], {}, "'target' has no text: all 3 documents are empty"),
        (["only one"], {}, "none of the 1 documents of source 'target' went to its validation"),
        ([prose(1)] * 50, {}, "none of the 50 documents of source 'target' went to its"),
    ],
)
def test_sources_that_leave_a_split_empty_are_refused(
    tmp_path: Path, texts: list[str], changes: dict, message: str
) -> None:
    values = sources(tmp_path, [prose(i) for i in range(60)], texts, **changes)
    with pytest.raises(UserError, match=message):
        prepare(DataConfig(tokenizer=BYTES, **values))
    assert not list(Path(values["store_dir"]).glob("target-*/manifest.json"))


def test_a_document_of_20_megabytes_is_one_document(tmp_path: Path) -> None:
    sentence = "A long document, with größe and 数. "
    long = sentence * (20 * 2**20 // len(sentence.encode()))
    values = sources(
        tmp_path, [prose(i) for i in range(60)], [long, *(prose(i) for i in range(40))]
    )
    store = prepare(DataConfig(tokenizer=BYTES, **values))["target"]
    split = "validation" if document_hash(long.encode()) < held_out_below(HELD_OUT) else "train"
    ends = store.documents(split).tolist()
    sizes = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert max(sizes) == len(long.encode()) + 1
    start = ends[sizes.index(max(sizes))] - max(sizes)
    assert bytes(store.tokens(split)[start : start + 10**6].astype("u1")) == long.encode()[: 10**6]


def test_held_out_text_of_one_source_in_another_is_refused(tmp_path: Path) -> None:
    shared = [prose(i) for i in range(40)]
    values = sources(tmp_path, shared + [prose(i) for i in range(100, 140)], shared)
    prepare(DataConfig(tokenizer=BYTES, **values))  # equal fractions: copies share a side
    generic, target = values["sources"]
    source = SourceConfig("jsonl", target[1].path, validation_fraction=0.5)
    held = sum(document_hash(t.encode()) < held_out_below(0.5) for t in shared)
    leaked = held - sum(document_hash(t.encode()) < held_out_below(HELD_OUT) for t in shared)
    values["sources"] = (generic, ("target", source))
    with pytest.raises(UserError, match=f"{leaked} held-out documents of 'target' are training"):
        prepare(DataConfig(tokenizer=BYTES, **values))


KILLED = """
import os, signal, sys
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.prepare import prepare
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.config import TokenizerConfig

source, other, store_dir, kill_at, part_bytes = sys.argv[1:]

def report(state):
    here = (state.source, state.stage) == ("generic", "tokenizing")
    if here and state.read_bytes > int(kill_at) > 0:
        os.kill(os.getpid(), signal.SIGKILL)

make = lambda path: SourceConfig("jsonl", path, validation_fraction=0.2)
data = DataConfig(
    (("generic", make(source)), ("target", make(other))),
    TokenizerConfig("bytes"), store_dir, "generic", "target",
)
prepare(data, report, processes=1, part_bytes=int(part_bytes))
"""


def test_kill_9_leaves_no_store_and_the_next_call_makes_what_is_missing(tmp_path: Path) -> None:
    size = 2**20
    values = sources(
        tmp_path, [prose(i, 6000) for i in range(160)], [prose(i) for i in range(1000, 1030)]
    )
    data = DataConfig(tokenizer=BYTES, **values)
    total = Path(data.sources[0][1].path).stat().st_size
    arguments = [source.path for _, source in data.sources] + [data.store_dir]
    for kill_at in (0.2, 0.4):
        more = [str(int(total * kill_at)), str(size)]
        killed = subprocess.run([sys.executable, "-c", KILLED, *arguments, *more])
        assert killed.returncode == -signal.SIGKILL
        assert find_stores(data) == {"generic": None, "target": None}
    (partial,) = (Path(data.store_dir) / "shards").glob("*.partial")
    with pytest.raises(UserError, match="not a finished token store"):
        TokenStore.open(partial)

    seen: list[PrepareProgress] = []
    stores = prepare(data, seen.append, part_bytes=size)
    # Six tenths were done; read again is at most the part that each was killed in.
    made = [s for s in seen if (s.source, s.stage) == ("generic", "tokenizing")]
    assert made[-1].read_bytes == made[-1].input_bytes
    left = made[0].input_bytes
    assert 0 < left <= 0.4 * total + 2 * 1.5 * size
    assert not partial.exists() and not list(Path(data.store_dir).rglob("*.partial"))
    assert check_store(stores["generic"].path) == []
    straight = DataConfig(data.sources, BYTES, str(tmp_path / "straight"), "generic", "target")
    other = prepare(straight, part_bytes=size)["generic"]
    assert files_of(other.path) == files_of(stores["generic"].path)


@pytest.mark.parametrize("moment", ["write_manifest", "into_place", "rename", "tokenize"])
def test_a_failure_at_any_moment_leaves_no_store(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "rename":
            patched.setattr(Path, "rename", fail)
        elif moment == "write_manifest":
            patched.setattr(store_writer, moment, fail)
        else:
            patched.setattr(shards, moment, fail)
        with pytest.raises(KeyboardInterrupt):
            prepare(data)
    assert find_stores(data) == {"generic": None, "target": None}
    stores = prepare(data)
    straight = DataConfig(data.sources, BYTES, str(tmp_path / "straight"), "generic", "target")
    expected = prepare(straight)
    for name, store in stores.items():
        assert files_of(store.path) == files_of(expected[name].path)
    left = {path.name for path in Path(data.store_dir).rglob("*")}
    assert not {name for name in left if "partial" in name or "lock" in name or "tmp" in name}


def test_a_full_disk_is_one_sentence_and_the_rest_is_done_later(
    data: DataConfig, tmp_path: Path
) -> None:
    values = sources(
        tmp_path, [prose(i, 2000) for i in range(60)], [prose(i) for i in range(1000, 1030)]
    )
    data = DataConfig(tokenizer=BYTES, **values)
    script = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))\n" + KILLED
    )
    arguments = [source.path for _, source in data.sources] + [data.store_dir, "0", "100000"]
    full = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True
    )
    assert full.returncode == 1
    last = full.stderr.strip().split("\n")[-1]
    assert last.startswith("replay_jax.errors.UserError: no space left while writing below")
    assert find_stores(data)["generic"] is None
    assert prepare(data)["generic"].manifest.splits["train"].documents > 0


def test_a_folder_that_cannot_be_written_is_one_sentence(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    for place in ("file", "file/below"):
        blocked = DataConfig(data.sources, BYTES, str(tmp_path / place), "generic", "target")
        with pytest.raises(UserError, match="file.* cannot be read or written"):
            prepare(blocked)


def test_two_preparations_at_once_make_one_store(data: DataConfig) -> None:
    found: list[dict[str, TokenStore]] = []
    threads = [threading.Thread(target=lambda: found.append(prepare(data))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len({store["generic"].path for store in found}) == 1
    assert check_store(found[0]["generic"].path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "other"}, "target source 'other' is not among the sources"),
        ({"target": "generic"}, "generic and target are both 'generic'"),
        ({"tokenizer": TokenizerConfig(train_sources=("x",))}, "train_sources names 'x'"),
    ],
)
def test_configurations_that_cannot_be_meant(data: DataConfig, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        DataConfig(**{**vars(data), **changes})
    with pytest.raises(UserError, match="source names must differ"):
        DataConfig((data.sources[0],) * 2, BYTES, "x", "generic", "target")
