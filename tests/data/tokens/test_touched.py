"""A file of a store that was written to afterwards is named, and what to delete mends it."""

import os
import re
import shutil
from pathlib import Path

import pytest
from corpora import BYTES, prose, sources

from replay_jax.data.tokens import integrity
from replay_jax.data.tokens.config import DataConfig
from replay_jax.data.tokens.prepare import prepare
from replay_jax.data.tokens.store import check_store
from replay_jax.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A configuration and its finished stores, with the fingerprints that they had."""
    folder = tmp_path_factory.mktemp("prepared")
    values = sources(folder, [prose(i) for i in range(60)], [prose(i) for i in range(1000, 1030)])
    data = DataConfig(tokenizer=BYTES, **values)
    return data, {name: store.fingerprint for name, store in prepare(data).items()}


NAMES = (
    "shards/*/train.tokens", "shards/*/train.documents", "shards/*/validation.sizes",
    "shards/*/manifest.json", "generic-*/tokenizer.json", "generic-*/byte_lengths.u16",
    "generic-*/manifest.json",
)  # fmt: skip


@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
@pytest.mark.parametrize("name", NAMES)
def test_damage_is_named_and_mended_by_deleting_what_is_said(prepared, name, how):
    data, fingerprints = prepared
    path = sorted(Path(data.store_dir).glob(name))[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content if how == "changed" else content[: len(content) // 2])
    if how != "gone" or path.name != "manifest.json":  # a folder without one is none, and is made
        with pytest.raises(UserError, match=re.escape(str(path))) as refused:
            prepare(data)
        shutil.rmtree(re.search(r"delete (\S+) and prepare it again", str(refused.value))[1])
    stores = prepare(data)
    assert {name: store.fingerprint for name, store in stores.items()} == fingerprints
    assert [check_store(store.path) for store in stores.values()] == [[], []]


def test_a_copy_is_read_once_and_then_trusted(prepared, tmp_path, monkeypatch):
    data, _ = prepared
    store = prepare(data)["generic"]
    (shard,) = store.manifest.shards
    tokens = Path(os.path.normpath(store.path / shard.folder)) / "train.tokens"
    os.utime(tokens)
    read = []
    compare = integrity.content_difference
    monkeypatch.setattr(
        integrity, "content_difference", lambda *each: read.append(each[0]) or compare(*each)
    )
    prepare(data)
    prepare(data)
    assert read.count(tokens) == 1
