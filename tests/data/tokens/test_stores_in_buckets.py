"""Stores in a bucket: one machine tokenizes, others copy what is whole, and check it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corpora import BYTES, HELD_OUT, prose, texts_of, write_lines
from folder_bucket import folder_as_bucket
from token_files import write_npy

from replay_jax.data.sources import buckets
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens import shards
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.prepare import find_stores, prepare
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.errors import UserError

TEXTS = {
    "generic": [prose(i) for i in range(60)],
    "target": [prose(i) for i in range(1000, 1030)],
}
PART = 4000  # so that generic is several shards


def config(**changes: object) -> DataConfig:
    source = {
        name: SourceConfig("jsonl", f"text/{name}.jsonl", validation_fraction=HELD_OUT)
        for name in TEXTS
    }
    data = DataConfig(tuple(source.items()), BYTES, "gs://bucket/stores", "generic", "target")
    return replace(data, **changes)  # type: ignore[arg-type]


class Machines:
    """Folders in which commands run, and what each made itself."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._patched, self.here, self.made = root, monkeypatch, "", list[str]()
        fill = shards._fill

        def counting(partial: Path, *rest: Any) -> None:
            self.made.append(f"{self.here} {partial.name}")
            fill(partial, *rest)

        monkeypatch.setattr(shards, "_fill", counting)

    def move_to(self, name: str, *, text: bool) -> None:
        self.here, folder = name, self.root / name
        folder.mkdir(exist_ok=True)
        self._patched.chdir(folder)
        self._patched.setattr("socket.gethostname", lambda: name)
        shutil.rmtree(folder / "text", ignore_errors=True)
        if text:
            (folder / "text").mkdir()
            for source, texts in TEXTS.items():
                write_lines(folder / "text" / f"{source}.jsonl", texts)

    def prepare(self, data: DataConfig) -> dict[str, TokenStore]:
        return prepare(data, processes=1, part_bytes=PART)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return folder_as_bucket(tmp_path / "cloud", monkeypatch) / "stores"


def fails_at(monkeypatch: pytest.MonkeyPatch, action: str, call: int) -> None:
    """The n-th copy of a file breaks off."""
    from fsspec.registry import _registry

    count, whole = 0, getattr(_registry["gs"], action)

    def broken(self: object, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == call:
            raise ConnectionError("the network is away")
        whole(self, *args, **kwargs)

    monkeypatch.setattr(_registry["gs"], action, broken)


@pytest.mark.parametrize("tokenizer", [BYTES, TokenizerConfig("bpe", vocab_size=300)])
def test_a_machine_without_the_text_copies_what_another_made(
    tokenizer: TokenizerConfig, machines: Machines, bucket: Path
) -> None:
    data = config(tokenizer=tokenizer)
    machines.move_to("one", text=True)
    first = machines.prepare(data)
    assert len(first["generic"].manifest.shards) > 3
    assert len(machines.made) == len(set(machines.made))
    machines.move_to("two", text=False)
    assert find_stores(data) == {"generic": None, "target": None}
    second = machines.prepare(data)
    assert all(made.startswith("one") for made in machines.made)
    for name, store in second.items():
        assert store.fingerprint == first[name].fingerprint and check_store(store.path) == []
        assert texts_of(store, "train") == texts_of(first[name], "train")
        assert store.path.is_relative_to(machines.root / "two/data/from_buckets/gs/bucket/stores")
    shutil.rmtree(bucket)
    assert machines.prepare(data)["generic"].path == second["generic"].path
    assert find_stores(data)["generic"] is not None


def test_machines_that_prepare_at_once_share_the_work(
    machines: Machines, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each begins elsewhere; what one has made, even if it then dies, no other makes."""
    machines.move_to("one", text=True)
    with monkeypatch.context() as broken:
        fails_at(broken, "put_file", 30)  # some shards later
        with pytest.raises(UserError, match="the network is away.*finished parts are kept"):
            machines.prepare(config())
    sent = {path.parent.name for path in bucket.glob("shards/*/manifest.json")}
    assert len(machines.made) == len(sent) + 1 > 2
    broken_off = machines.made[-1].split()[1]
    machines.move_to("two", text=True)
    stores = machines.prepare(config())
    made = [name.split()[1].removesuffix(".partial") for name in machines.made]
    assert not sent & set(made[len(sent) + 1 :])
    # In the order of the first machine this would be the next.
    assert machines.made[len(sent) + 1].split()[1] != broken_off
    machines.move_to("one", text=True)
    before = len(machines.made)
    assert machines.prepare(config())["generic"].fingerprint == stores["generic"].fingerprint
    assert len(machines.made) == before
    found = {path.parent.name for path in bucket.glob("shards/*/manifest.json")}
    assert found == set(made)


def test_what_was_made_and_not_sent_is_sent_by_the_next_call(
    machines: Machines, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.move_to("one", text=True)
    with monkeypatch.context() as broken:
        fails_at(broken, "put_file", 2)
        with pytest.raises(UserError, match=r"gs://bucket/stores cannot be read or written"):
            machines.prepare(config())
    assert not list(bucket.glob("shards/*/manifest.json")) and len(machines.made) == 1
    stores = machines.prepare(config())
    there = {path.parent.name for path in bucket.glob("shards/*/manifest.json")}
    assert len(there) == sum(len(store.manifest.shards) for store in stores.values())
    assert len(machines.made) == len(there)


def test_nothing_half_copied_or_altered_is_taken(
    machines: Machines, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.move_to("one", text=True)
    first = machines.prepare(config())
    machines.move_to("two", text=False)
    with monkeypatch.context() as broken:
        fails_at(broken, "get_file", 6)
        with pytest.raises(UserError, match="the network is away"):
            machines.prepare(config())
    here = Path("data/from_buckets/gs/bucket/stores/shards")
    assert [path for path in here.iterdir() if not (path / "manifest.json").exists()] == []
    left = sorted(path for path in bucket.glob("shards/*/train.tokens")
                  if not (here / path.parent.name).exists())  # fmt: skip
    good = left[0].read_bytes()
    left[0].write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"{left[0].parent.name}/train.tokens was altered"):
        machines.prepare(config())
    assert not (here / left[0].parent.name).exists()
    left[0].write_bytes(good)
    manifest = left[0].with_name("manifest.json")
    text = manifest.read_text()
    for damage, message in (
        (text[:-30], "manifest.json is damaged"),
        (text.replace("train.tokens", "../../../x"), "which is no file of a shard"),
        (text.replace(json.loads(text)["key"], "f" * 64), "is another shard than its name says"),
    ):
        manifest.write_text(damage)
        with pytest.raises(UserError, match=message):
            machines.prepare(config())
    manifest.write_text(text)
    assert machines.prepare(config())["generic"].fingerprint == first["generic"].fingerprint


def test_other_content_under_the_same_name_is_refused(machines: Machines, bucket: Path) -> None:
    """And a manifest that only words its messages otherwise takes the place of ours."""
    machines.move_to("one", text=True)
    store = machines.prepare(config())["generic"]
    folder = (store.path / store.manifest.shards[0].folder).resolve()
    theirs = bucket / "shards" / folder.name / "manifest.json"
    theirs.write_text(theirs.read_text().replace('"first_bad": ""', '"first_bad": "b"'))
    buckets.send_folder("gs://bucket/stores", f"shards/{folder.name}", folder)
    assert (folder / "manifest.json").read_text() == theirs.read_text()
    stored = json.loads(theirs.read_text())
    stored["files"]["train.tokens"]["sha256"] = "0" * 64
    theirs.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="is not what this machine made of the same input"):
        buckets.send_folder("gs://bucket/stores", f"shards/{folder.name}", folder)


def test_text_that_changed_on_one_machine_is_followed_by_those_without(
    machines: Machines, bucket: Path
) -> None:
    machines.move_to("one", text=True)
    machines.prepare(config())
    machines.move_to("two", text=False)
    old = machines.prepare(config())["target"]
    machines.move_to("one", text=True)
    write_lines(Path("text/target.jsonl"), [prose(i) for i in range(2000, 2030)])
    new = machines.prepare(config())["target"]
    machines.move_to("two", text=False)
    assert machines.prepare(config())["target"].fingerprint == new.fingerprint != old.fingerprint


def test_ids_are_copied_into_a_bucket(machines: Machines, bucket: Path) -> None:
    """What a machine without the file could not read where it lies."""
    data = config()
    source = SourceConfig("npy", "text/ids.npy", validation_fraction=HELD_OUT)
    data = replace(data, sources=(("generic", source), data.sources[1]))
    machines.move_to("one", text=True)
    write_npy(Path("text/ids.npy"), [i for t in TEXTS["generic"] for i in (*t.encode(), 256)])
    first = machines.prepare(data)["generic"]
    machines.move_to("two", text=False)
    assert machines.prepare(data)["generic"].fingerprint == first.fingerprint


@pytest.mark.parametrize("place", ["ftp://a/b", "gs:/a", "s3://", "s3:///a"])
def test_other_places_are_refused(place: str) -> None:
    with pytest.raises(UserError, match="neither a folder nor a place in a bucket"):
        config(store_dir=place)


def test_a_library_that_is_missing_is_named(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(place: str) -> Callable[[], None]:
        raise ImportError("no s3fs")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    machines.move_to("one", text=True)
    with pytest.raises(UserError, match="s3:// needs s3fs: pip install s3fs"):
        machines.prepare(config(store_dir="s3://bucket/stores"))
