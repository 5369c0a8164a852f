"""Manifests and remembered inputs that are damaged: one sentence, or as if they were not there."""

import json

import pytest
from tiny_store import make_store

from replay_jax.data.sources.fingerprints import (
    known_part,
    known_source,
    recalled_part,
    remember_source,
)
from replay_jax.data.sources.parts import source_parts
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.manifest import MANIFEST_NAME
from replay_jax.data.tokens.store import TokenStore, check_store
from replay_jax.errors import UserError


@pytest.mark.parametrize(
    "content", [b"\xff", b"[" * 100_000, b"[]", b"null", b"3", b'{"format": 2}']
)
def test_a_manifest_that_is_none_is_one_sentence(tmp_path, content):
    path = make_store(tmp_path / "store", [[1, 2]], [[3]]).path
    (path / MANIFEST_NAME).write_bytes(content)
    for read in (TokenStore.open, check_store):
        with pytest.raises(UserError, match="manifest.json"):
            read(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "float"}, "manifest.json is damaged .*dtype 'float' is not one of uint16"),
        ({"shards": []}, "manifest.json is damaged .*train split is not the sum of its .*; delete"),
        ({"splits": {}}, "splits .* are not train, validation"),
    ],
)
def test_a_manifest_that_cannot_be_is_one_sentence(tmp_path, change, words):
    path = make_store(tmp_path / "store", [[1, 2]], [[3]]).path
    manifest = json.loads((path / MANIFEST_NAME).read_text())
    (path / MANIFEST_NAME).write_text(json.dumps({**manifest, **change}))
    with pytest.raises(UserError, match=words):
        TokenStore.open(path)


def test_a_changed_digit_of_a_manifest_is_no_other_store(tmp_path):
    path = make_store(tmp_path / "store", [[1, 2]], [[3]]).path
    text = (path / MANIFEST_NAME).read_text()
    assert text.count('"vocab_size": 300') == 1
    (path / MANIFEST_NAME).write_text(text.replace('"vocab_size": 300', '"vocab_size": 301'))
    with pytest.raises(UserError, match="manifest.json is damaged .it was changed"):
        TokenStore.open(path)


@pytest.mark.parametrize("folder", ["a\0b", "\ud800", "x" * 5000, "manifest.json"])
def test_a_shard_whose_folder_can_be_none_is_one_sentence(tmp_path, folder):
    path = make_store(tmp_path / "store", [[1, 2]], [[3]]).path
    manifest = json.loads((path / MANIFEST_NAME).read_text())
    manifest["shards"][0]["folder"] = folder
    del manifest["checksum"]  # as versions wrote it that kept none
    (path / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is missing|cannot be read"):
        TokenStore.open(path)
    assert check_store(path)


@pytest.mark.parametrize(
    "content", [b"\xff", b"[" * 100_000, b"[]", b"null", b"{}", b'{"digest": 1}', b'{"files": [1]}']
)
def test_what_was_remembered_and_is_damaged_is_forgotten(tmp_path, content):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    source, stores = SourceConfig("jsonl", str(tmp_path / "a.jsonl")), tmp_path / "stores"
    (part,) = source_parts(source)
    known = known_part(source, part, stores)
    remember_source(source, stores, [known])
    assert known_source(source, stores) == [recalled_part(source, part, stores)] == [known]
    for path in (stores / "inputs").glob("*.json"):
        path.write_bytes(content)
    assert known_source(source, stores) is None is recalled_part(source, part, stores)
    assert known_part(source, part, stores) == known


def test_a_changed_digit_of_what_was_remembered_is_no_other_input(tmp_path):
    """It was another digest, so that every preparation took the input for one that changes."""
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    source, stores = SourceConfig("jsonl", str(tmp_path / "a.jsonl")), tmp_path / "stores"
    (part,) = source_parts(source)
    known = known_part(source, part, stores)
    (path,) = (stores / "inputs").glob("*.json")
    other = ("0" if known.digest[0] != "0" else "1") + known.digest[1:]
    path.write_text(path.read_text().replace(known.digest, other))
    assert recalled_part(source, part, stores) is None
    assert known_part(source, part, stores) == known
