"""Shards: known by role and content, made by processes, and never of text that changed."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpora import BYTES, HELD_OUT, prose, sources, texts_of, write_lines

from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.sources.workers import PrepareProgress, processes_for
from replay_jax.data.tokens import shards
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.prepare import find_stores, prepare
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.errors import UserError
from replay_jax.library.preparing import Prepared, print_prepared

TEXTS = [prose(i) for i in range(90)]


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    values = sources(tmp_path, TEXTS, [prose(i) for i in range(1000, 1030)])
    return DataConfig(tokenizer=BYTES, **values)


def with_target(data: DataConfig, source: SourceConfig, **changes: object) -> DataConfig:
    return replace(data, sources=(data.sources[0], ("target", source)), **changes)


def made(data: DataConfig, **changes: object) -> tuple[dict[str, TokenStore], int]:
    """Stores, and how many bytes of input were read to make them."""
    seen: dict[str, PrepareProgress] = {}

    def report(state: PrepareProgress) -> None:
        if state.stage == "tokenizing":
            seen[state.source] = state

    stores = prepare(data, report, **changes)  # type: ignore[arg-type]
    return stores, sum(state.read_bytes for state in seen.values())


def test_what_is_held_out_is_part_of_a_stores_identity(data: DataConfig, tmp_path: Path) -> None:
    """The same files in the same order, the border between the roles elsewhere."""
    folders = {name: tmp_path / name for name in ("a", "ab", "c", "bc")}
    for name, folder in folders.items():
        folder.mkdir()
        for number, letter in enumerate(name):
            start = 3000 + 100 * "abc".index(letter)
            texts = [prose(start + i) for i in range(20)]
            write_lines(folder / f"{number}.jsonl", texts)
    found = {}
    for train, held_out in (("ab", "c"), ("a", "bc")):
        source = SourceConfig(
            "jsonl",
            str(folders[train]),
            validation_fraction=0.0,
            validation_path=str(folders[held_out]),
        )
        # A part for each file, so that the one that changes sides is the same part.
        size = max(file.stat().st_size for file in folders["ab"].iterdir())
        found[train] = prepare(with_target(data, source), part_bytes=size)["target"]
    assert len(texts_of(found["ab"], "train")) == 40 == len(texts_of(found["a"], "validation"))
    assert len(texts_of(found["a"], "train")) == 20 == len(texts_of(found["ab"], "validation"))
    assert found["ab"].path != found["a"].path


def test_slices_of_a_split_are_different_sources(data: DataConfig, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra 'huggingface' is not installed")
    folder = tmp_path / "set"
    folder.mkdir()
    texts = [prose(i) for i in range(2000, 2090)]
    write_lines(folder / "train.jsonl", texts)
    held = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        for held_out in ("train[80:]", "train[50:]"):
            source = SourceConfig(
                "huggingface",
                str(folder),
                split="train[:30]",
                validation_fraction=0.0,
                validation_path=held_out,
            )
            held.append(texts_of(prepare(with_target(data, source))["target"], "validation"))
    assert held == [texts[80:], texts[50:]]


def test_a_store_does_not_depend_on_how_its_input_is_cut(data: DataConfig, tmp_path: Path) -> None:
    whole = prepare(data)
    other = replace(data, store_dir=str(tmp_path / "cut"))
    cut = prepare(other, part_bytes=1500)
    assert len(whole["generic"].manifest.shards) == 1 < 10 < len(cut["generic"].manifest.shards)
    for name, store in whole.items():
        assert cut[name].fingerprint == store.fingerprint
        for split in ("train", "validation"):
            assert texts_of(cut[name], split) == texts_of(store, split)
            for seq_len in (7, 300, 2000):
                one, many = (s[name].rows(split, seq_len) for s in (whole, cut))
                order = np.random.default_rng(0).permutation(len(one))
                assert np.array_equal(one.gather(order), many.gather(order))
                assert np.array_equal(one.segments(order), many.segments(order))
                assert np.array_equal(one[len(one) - 1], many[len(one) - 1])
        assert check_store(cut[name].path) == []


def test_processes_make_what_one_makes(data: DataConfig, tmp_path: Path) -> None:
    bpe = replace(data, tokenizer=TokenizerConfig("bpe", vocab_size=300, train_bytes=3000))
    one = prepare(bpe, processes=1, part_bytes=4000)
    other = replace(bpe, store_dir=str(tmp_path / "other"))
    two = prepare(other, processes=2, part_bytes=4000)
    for name, store in one.items():
        assert two[name].fingerprint == store.fingerprint
        assert two[name].path.name == store.path.name


def test_bad_input_in_a_process_is_one_sentence(data: DataConfig) -> None:
    with Path(data.sources[0][1].path).open("a", encoding="utf-8") as file:
        file.write("no json\n")
    with pytest.raises(UserError, match=f"line {len(TEXTS) + 1}: not valid JSON"):
        prepare(data, processes=2, part_bytes=4000)
    assert find_stores(data) == {"generic": None, "target": None}


def test_processes_are_as_many_as_have_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay_jax.data.sources.workers.available_cores", lambda: 8)
    mega = 2**20
    assert processes_for([]) == processes_for([0]) == processes_for([mega] * 8) == 1
    assert processes_for([64 * mega] * 20) == 8
    assert processes_for([1000 * mega, 10 * mega]) == 1  # its encoder uses all cores
    assert processes_for([64 * mega] * 3 + [mega]) == 3


def test_only_what_changed_is_read_again(data: DataConfig, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(4):
        write_lines(folder / f"{number}.jsonl", [prose(2000 + 100 * number + i) for i in range(20)])
    source = SourceConfig("jsonl", str(folder), validation_fraction=HELD_OUT)
    changed = with_target(data, source)
    size = max(path.stat().st_size for path in folder.iterdir())
    stores, read = made(changed, part_bytes=size)
    assert len(stores["target"].manifest.shards) == 4 and read > 4 * size * 0.9
    write_lines(folder / "1.jsonl", [prose(9000 + i) for i in range(20)])
    _, read = made(changed, part_bytes=size)
    assert read == (folder / "1.jsonl").stat().st_size
    write_lines(folder / "0a.jsonl", [prose(9100 + i) for i in range(20)])
    _, read = made(changed, part_bytes=size)
    assert read == (folder / "0a.jsonl").stat().st_size
    # A copy of it all elsewhere is known by its content.
    shutil.copytree(folder, tmp_path / "copy")
    copied = replace(source, path=str(tmp_path / "copy"))
    _, read = made(with_target(data, copied), part_bytes=size)
    assert read == 0


@pytest.mark.parametrize("back", [False, True])
def test_input_that_changes_while_it_is_read_leaves_nothing(
    data: DataConfig, back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(data.sources[0][1].path)
    before = path.read_text(encoding="utf-8")
    clean = prepare(replace(data, store_dir=data.store_dir + "-clean"))["generic"]
    real = shards.part_documents

    def edited(*arguments: object) -> object:
        path.write_text(before.replace("ba", "xx"), encoding="utf-8")
        return real(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(shards, "part_documents", edited)
        with pytest.raises(UserError, match="changed while it was read; run again"):
            prepare(data)
    assert find_stores(data)["generic"] is None
    if back:
        path.write_text(before, encoding="utf-8")
        assert prepare(data)["generic"].fingerprint == clean.fingerprint
    else:
        assert prepare(data)["generic"].fingerprint != clean.fingerprint


def test_two_projects_that_share_stores_keep_their_own_text(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = str(tmp_path / "shared")
    relative = with_target(
        data, SourceConfig("jsonl", "train.jsonl", validation_fraction=HELD_OUT), store_dir=shared
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    write_lines(tmp_path / "one/train.jsonl", [prose(4000 + i) for i in range(30)])
    monkeypatch.chdir(tmp_path / "one")
    first = prepare(relative)["target"]
    monkeypatch.chdir(tmp_path / "two")
    assert find_stores(relative)["target"] is None
    with pytest.raises(UserError, match="no file matches 'train.jsonl'"):
        prepare(relative)
    # A project copied with its stores is known again, even without its text.
    monkeypatch.chdir(tmp_path / "one")
    inside = replace(relative, store_dir="stores", sources=(("web", replace(
        data.sources[0][1], path="web.jsonl")), relative.sources[1]), generic="web")  # fmt: skip
    shutil.copy(data.sources[0][1].path, "web.jsonl")
    prepare(inside)
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    for name in ("web.jsonl", "train.jsonl"):
        Path(name).unlink()
    assert prepare(inside)["target"].fingerprint == first.fingerprint


def test_an_emptied_file_and_a_date_that_was_set_back_are_seen(data: DataConfig) -> None:
    first = prepare(data)["target"]
    path = Path(data.sources[1][1].path)
    status, text = path.stat(), path.read_text(encoding="utf-8")
    path.write_text(text.replace("1000 ", "1999 "), encoding="utf-8")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert find_stores(data)["target"] is None
    assert prepare(data)["target"].fingerprint != first.fingerprint
    path.write_text("", encoding="utf-8")
    assert find_stores(data)["target"] is None
    with pytest.raises(UserError, match=r"target.jsonl is empty \(0 bytes\)"):
        prepare(data)


def test_a_plan_reads_nothing_of_the_input(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = prepare(data)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the input was read")

    monkeypatch.setattr("replay_jax.data.sources.files.HashedFile.__init__", never)
    assert {n: s and s.path for n, s in find_stores(data).items()} == {
        name: store.path for name, store in stores.items()
    }
    os.utime(data.sources[0][1].path)
    assert find_stores(data)["generic"] is None


def test_stores_serve_from_a_share_that_is_only_read(data: DataConfig, tmp_path: Path) -> None:
    """Copied, so that all dates and inodes are others, and with nothing that can be written."""
    expected = {name: store.fingerprint for name, store in prepare(data).items()}
    share = tmp_path / "share"
    share.mkdir()
    for name in ("stores", "generic.jsonl", "target.jsonl"):
        copy = shutil.copytree if (tmp_path / name).is_dir() else shutil.copy
        copy(tmp_path / name, share / name)
    script = (
        "import os, pickle, sys; from replay_jax.data.tokens.prepare import prepare;"
        "data = pickle.loads(bytes.fromhex(sys.argv[1]));"
        "print({name: store.fingerprint for name, store in prepare(data).items()})"
    )
    moved = tuple((n, replace(s, path=str(share / Path(s.path).name))) for n, s in data.sources)
    argument = pickle.dumps(replace(data, sources=moved, store_dir=str(share / "stores"))).hex()
    for path in (share, *share.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # Root may write anywhere unless it gives that up.
    low = "-dac_override,-dac_read_search,-fowner"
    drop = ["setpriv", f"--bounding-set={low}", f"--inh-caps={low}"] if os.geteuid() == 0 else []
    try:
        result = subprocess.run(
            [*drop, sys.executable, "-c", script, argument], capture_output=True, text=True
        )
    finally:
        for path in (share, *share.rglob("*")):
            path.chmod(0o755)
    assert result.stdout.strip() == str(expected), result.stderr[-500:]


def test_a_stores_tokenizer_serves_where_its_file_is_gone(data: DataConfig, tmp_path: Path) -> None:
    from replay_jax.data.tokens.bpe_training import train_bpe

    model = train_bpe(TEXTS, 300).model
    assert model is not None
    model.save(str(tmp_path / "tokenizer.json"))
    file = replace(data, tokenizer=TokenizerConfig("file", str(tmp_path / "tokenizer.json")))
    stores = prepare(file)
    (tmp_path / "tokenizer.json").unlink()
    assert {n: s.path for n, s in prepare(file).items()} == {n: s.path for n, s in stores.items()}
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be loaded"):
        prepare(file)


def test_workers_in_another_folder_open_a_store(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = prepare(replace(data, store_dir="stores"))["target"]
    stored = pickle.dumps(store)
    monkeypatch.chdir("/")
    assert pickle.loads(stored).fingerprint == store.fingerprint


def test_damage_is_found_and_a_shard_without_manifest_is_made_again(data: DataConfig) -> None:
    store = prepare(data, part_bytes=3000)["generic"]
    shard = Path(os.path.normpath(store.path / store.manifest.shards[1].folder))
    tokens = shard / "train.tokens"
    whole = tokens.read_bytes()
    tokens.write_bytes(bytes(len(whole)))
    (wrong,) = check_store(store.path)
    assert wrong.startswith(f"{tokens} was altered")
    # The manifests agree with the tokens, yet the fingerprint does not.
    manifest = json.loads((store.path / "manifest.json").read_text(encoding="utf-8"))
    tokens.write_bytes(whole)
    assert check_store(store.path) == []
    del manifest["checksum"]  # as versions wrote it that kept none
    manifest["shards"].reverse()
    (store.path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    (wrong,) = check_store(store.path)
    assert "not those of its fingerprint" in wrong

    (shard / "manifest.json").unlink()
    (store.path / "manifest.json").unlink()
    again, read = made(data, part_bytes=3000)
    assert again["generic"].fingerprint == store.fingerprint and 0 < read < 4500
    assert check_store(again["generic"].path) == []


@pytest.mark.parametrize("name", ["allenai/c4", "n" * 300, "dclm-1.0", "../up"])
def test_a_source_may_have_any_name(data: DataConfig, name: str) -> None:
    named = replace(data, sources=(data.sources[0], (name, data.sources[1][1])), target=name)
    store = prepare(named)[name]
    assert store.path.parent == Path(data.store_dir) and store.manifest.source == name


def test_a_tilde_is_the_home_folder(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    source = replace(data.sources[1][1], path="~/target.jsonl")
    store = prepare(with_target(data, source, store_dir="~/kept"))["target"]
    assert store.path.parent == tmp_path / "kept" and not Path("~").exists()


def test_bad_documents_are_counted_and_never_slip_into_a_store_that_refuses_them(
    data: DataConfig,
) -> None:
    path = Path(data.sources[1][1].path)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"text": "half \\ud83d"}\nno json\n{"text": null}\n')
    with pytest.raises(UserError, match="half a surrogate pair"):
        prepare(data)
    lenient = with_target(data, replace(data.sources[1][1], bad_documents="pass_over"))
    manifest = prepare(lenient)["target"].manifest
    assert (manifest.bad, manifest.empty) == (2, 1)
    assert sum(counts.documents for counts in manifest.splits.values()) == 30
    with pytest.raises(UserError, match="half a surrogate pair"):
        prepare(data)


def test_what_is_prepared_is_told_with_its_copies(
    data: DataConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(Path(data.sources[0][1].path), [*TEXTS, *(prose(i) for i in range(1000, 1010))])
    print_prepared(Prepared(prepare(data), {}, {}))
    printed = capsys.readouterr().out
    assert "training documents of generic stand in the training text of target" in printed
    assert "target: " in printed and "held out, in" in printed
