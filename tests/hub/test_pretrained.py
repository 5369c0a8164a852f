"""Pre-trained weights: out of a model folder into every sharding, and back, bit for bit."""

import dataclasses
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_training import MODEL, drawn_parameters, mesh_of

from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import (
    check_pretrained,
    find_pretrained,
    pretrained_config,
    pretrained_folder,
)
from replay_jax.hub.tensors import WeightReader
from replay_jax.hub.weights import load_params
from replay_jax.training.begin import compile_begin
from replay_jax.training.step import abstract_state, begin_state, init_state

DEEP = dataclasses.replace(MODEL, num_layers=2)
SCANNED = dataclasses.replace(DEEP, layer_loop="scan")


def export(folder, params, model=DEEP, **changes):
    """A model folder, in float32 unless changed."""
    given = {"dtype": "float32", "facts": {"why": "test"}, **changes}
    write_model_folder(folder, params, model, byte_tokenizer(), **given)
    return folder


def load(folder, model, mesh):
    pretrained = find_pretrained(str(folder), str(folder.parent / "stores"), download=False)
    check_pretrained(model, pretrained)
    like = abstract_state(model, mesh).params
    return load_params(pretrained, like, model)


def equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.fixture(scope="module")
def params():
    """Random parameters with norms that are not all one."""
    drawn = jax.device_get(drawn_parameters(DEEP, mesh_of(1, 1, 1), 3))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + random.normal(size=x.shape).astype(x.dtype), drawn)


@pytest.fixture(scope="module")
def folder(params, tmp_path_factory):
    return export(tmp_path_factory.mktemp("models") / "model", params)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_exported_parameters_come_back_in_every_sharding(folder, params, sizes):
    mesh = mesh_of(*sizes)
    found = load(folder, DEEP, mesh)
    assert equal(found, params)
    wanted = abstract_state(DEEP, mesh).params
    for leaf, like in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (leaf.sharding, leaf.dtype) == (like.sharding, like.dtype)


def test_layers_that_are_scanned_are_the_same_layers(folder, params, tmp_path):
    stacked = load(folder, SCANNED, mesh_of(2, 2, 2))
    for number in range(2):
        layer = jax.tree.map(lambda x, n=number: np.asarray(x)[n], stacked["layers"])
        assert equal(layer, params[f"layer_{number}"])
    again = export(tmp_path / "again", jax.device_get(stacked), SCANNED)
    one, other = (load_file(at / "model.safetensors") for at in (folder, again))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_tied_head_is_stored_once(tmp_path):
    tied = dataclasses.replace(DEEP, tied_embeddings=True)
    drawn = jax.device_get(drawn_parameters(tied, mesh_of(1, 1, 1), 1))
    at = export(tmp_path / "tied", drawn, tied)
    assert "lm_head.weight" not in load_file(at / "model.safetensors")
    assert equal(load(at, tied, mesh_of(1, 1, 1)), drawn)


HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@pytest.mark.parametrize("kept", [(EMBEDDING, HEAD), (HEAD,)])
def test_a_tied_head_is_found_twice_or_under_the_other_name(tmp_path, kept):
    tied = dataclasses.replace(DEEP, tied_embeddings=True)
    drawn = jax.device_get(drawn_parameters(tied, mesh_of(1, 1, 1), 1))
    folder = export(tmp_path / "tied", drawn, tied)

    def rename(tensors):
        one = tensors.pop(EMBEDDING)
        tensors.update(dict.fromkeys(kept, one))

    assert equal(load(changed(folder, tmp_path, rename), tied, mesh_of(1, 2, 1)), drawn)


def test_halves_are_read_exactly(folder, params, tmp_path):
    """float16, as older models are published; some tensors in one kind and some in another."""

    def halve(tensors):
        tensors.update({name: tensors[name].astype(np.float16) for name in list(tensors)[::2]})

    at = changed(folder, tmp_path, halve)
    found, exact = load(at, DEEP, mesh_of(1, 1, 1)), jax.tree.leaves(params)
    for one, other in zip(jax.tree.leaves(found), exact, strict=True):
        assert np.array_equal(one, other) or np.array_equal(one, np.float32(np.float16(other)))
    assert not equal(found, params)


def test_an_index_may_name_too_much_and_too_little(folder, params, tmp_path):
    """What counts is what the files hold."""
    at = export(tmp_path / "cut", params, shard_bytes=20_000)
    path = at / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.vision.weight"] = index["weight_map"].pop(GATE)
    path.write_text(json.dumps(index))
    assert equal(load(at, DEEP, mesh_of(1, 1, 1)), params)


def test_tensors_are_read_a_few_rows_at_a_time(folder, params, monkeypatch):
    monkeypatch.setattr("replay_jax.hub.tensors._BYTES_AT_ONCE", 300)
    assert equal(load(folder, DEEP, mesh_of(2, 2, 2)), params)


def test_stacked_layers_are_held_one_at_a_time(tmp_path, monkeypatch):
    """Or two or three, as JAX lets go of what devices have been given in a thread of its own."""
    deep = dataclasses.replace(SCANNED, num_layers=16)
    shapes = jax.eval_shape(lambda: init_state(deep, 0)).params
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    at = export(tmp_path / "deep", zeros, deep)
    read, alive, most = WeightReader.read, weakref.WeakSet(), []

    class Held(np.ndarray):
        """An array that can be in a set."""

        __hash__ = object.__hash__

    def remembered(self, name, index):
        found = read(self, name, index).view(Held)
        alive.add(found)
        most.append(len(alive))
        return found

    monkeypatch.setattr(WeightReader, "read", remembered)
    load(at, deep, mesh_of(1, 1, 1))
    assert len(most) == 9 * 16 + 3 and max(most) <= 8, most


def test_training_starts_with_empty_moments(folder, params):
    mesh = mesh_of(2, 2, 2)
    wanted = begin_state(params, DEEP)
    state = compile_begin(DEEP, mesh)(load(folder, DEEP, mesh), 0)
    assert equal(state, wanted)
    assert int(state.step) == 0 and not any(np.any(x) for x in jax.tree.leaves(state.opt_state))


def test_bfloat16_is_rounded_once_and_read_exactly(params, tmp_path):
    at = export(tmp_path / "half", params, dtype="bfloat16")
    assert json.loads((at / "config.json").read_text())["torch_dtype"] == "bfloat16"
    rounded = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16).astype(np.float32), params)
    assert equal(load(at, DEEP, mesh_of(1, 2, 1)), rounded)


def test_large_models_are_cut_into_files_with_an_index(folder, params, tmp_path):
    at = export(tmp_path / "cut", params, shard_bytes=20_000)
    files = sorted(path.name for path in at.glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((at / "model.safetensors.index.json").read_text())
    tensors = {}
    for name in files:
        inside = load_file(at / name)
        assert len(inside) == 1 or sum(x.nbytes for x in inside.values()) <= 20_000
        assert all(index["weight_map"][tensor] == name for tensor in inside)
        tensors |= inside
    assert tensors.keys() == load_file(folder / "model.safetensors").keys()
    # Small tensors share a file.
    assert len(files) <= sum(x.nbytes for x in tensors.values()) // 10_000
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in tensors.values())
    assert equal(load(at, DEEP, mesh_of(1, 1, 1)), params)


def test_the_fingerprint_is_of_the_content(folder, params, tmp_path):
    def fingerprint(at):
        return find_pretrained(str(at), str(tmp_path / "stores"), download=False).fingerprint

    before = fingerprint(folder)
    copy = export(tmp_path / "copy", params)
    assert fingerprint(copy) == before
    file = copy / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert fingerprint(copy) != before


def changed(folder, tmp_path, change):
    """A copy of a model folder whose tensors were changed."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    at = tmp_path / "changed"
    at.mkdir()
    (at / "config.json").write_text((folder / "config.json").read_text())
    save_file(tensors, at / "model.safetensors")
    return at


GATE = "model.layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop(GATE), (f"no tensor {GATE}",)),
        (lambda t: t.update({GATE: t[GATE][1:]}), (GATE, "(63, 32)", "(64, 32)")),
        (lambda t: t.update({GATE: t[GATE].astype(np.int32)}), (GATE, "I32", "F32, BF16, F16")),
    ],
)
def test_tensors_that_do_not_fit_are_one_sentence(folder, tmp_path, change, words):
    at = changed(folder, tmp_path, change)
    with pytest.raises(UserError) as refusal:
        load(at, DEEP, mesh_of(1, 1, 1))
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


def test_tensors_that_the_model_does_not_have_are_left_alone(folder, params, tmp_path):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float32)}
    at = changed(folder, tmp_path, lambda tensors: tensors.update(extra))
    assert equal(load(at, DEEP, mesh_of(1, 1, 1)), params)


def test_a_cut_off_file_is_one_sentence(folder, params, tmp_path):
    at = export(tmp_path / "cut", params)
    file = at / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="no whole safetensors file"):
        load(at, DEEP, mesh_of(1, 1, 1))


def test_folders_that_are_none_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no folder 'nowhere'"):
        pretrained_folder("nowhere", download=False)
    with pytest.raises(UserError, match="not on a disk"):
        pretrained_folder("gs://bucket/model", download=False)
    with pytest.raises(UserError, match="no config.json"):
        pretrained_config(str(tmp_path), download=False)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        pretrained_config(str(tmp_path), download=False)
    with pytest.raises(UserError, match=r"no \*.safetensors"):
        find_pretrained(str(tmp_path), str(tmp_path), download=False)


def test_stale_files_beside_an_index_are_not_read(params, tmp_path):
    at = export(tmp_path / "cut", params, shard_bytes=20_000)
    stale = {name: x + 1 for name, x in load_file(next(at.glob("*.safetensors"))).items()}
    save_file(stale, at / "model-00001-of-00099.safetensors")
    assert equal(load(at, DEEP, mesh_of(1, 1, 1)), params)
    save_file(stale, at / "model.safetensors")
    with pytest.raises(UserError, match="model.safetensors and an index of other files"):
        load(at, DEEP, mesh_of(1, 1, 1))


def test_a_tensor_in_two_files_without_an_index_is_refused(folder, params, tmp_path):
    at = export(tmp_path / "twice", params)
    save_file({GATE: np.zeros((64, 32), np.float32)}, at / "old.safetensors")
    with pytest.raises(UserError, match=f"{GATE} in old.safetensors and in another file"):
        load(at, DEEP, mesh_of(1, 1, 1))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_link_that_leads_nowhere_is_named(params, tmp_path, name):
    at = export(tmp_path / "linked", params)
    (at / name).unlink()
    (at / name).symlink_to("../../blobs/0123")
    with pytest.raises(UserError, match=f"{name} is a link to ../../blobs/0123, which is not"):
        load(at, DEEP, mesh_of(1, 1, 1))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("config.json", "[]", "no JSON object"),
        ("config.json", "[" * 100_000, "config.json is not JSON"),
        ("model.safetensors.index.json", '{"weight_map": ["a"]}', "no weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "../b"}}', "no weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {"a": ""}}', "no weight_map"),
        ("model.safetensors.index.json", json.dumps({"weight_map": {"a": "x" * 300}}),
         "no weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "\\u0000"}}', "no weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "b", "c": "model.safetensors"}}',
         "b is not there, although"),
    ],
)  # fmt: skip
def test_odd_json_in_a_model_folder_is_one_sentence(params, tmp_path, name, text, words):
    at = export(tmp_path / "odd", params)
    (at / name).write_text(text)
    with pytest.raises(UserError, match=words):
        load(at, DEEP, mesh_of(1, 1, 1))


def test_an_export_is_whole_or_not_there(folder, params, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="exists already"):
        export(folder, params)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("replay_jax.hub.export.save_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        export(tmp_path / "new", params)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_id_is_found_in_the_hubs_cache(folder, tmp_path):
    """As the hub's own library leaves it after a download; nothing is fetched."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "hub" / "models--some-org--tiny"
    for tag in ("main", "v2"):
        (model / "refs").mkdir(parents=True, exist_ok=True)
        (model / "refs" / tag).write_text(commit)
    snapshot = model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        os.link(path, snapshot / path.name)
    script = (
        "from replay_jax.hub.folder import pretrained_folder\n"
        "for name in ('some-org/tiny', 'some-org/tiny@v2', 'some-org/other'):\n"
        "    print(pretrained_folder(name, download=False), flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [Path(line) for line in done.stdout.split()] == [snapshot, snapshot]
    assert "UserError: 'some-org/other' is no folder, and the hub's model" in done.stderr
