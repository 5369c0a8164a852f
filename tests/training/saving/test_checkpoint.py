"""Checkpoints: exact, on any mesh, whole or absent, and loud when they fail."""

import json
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from saving import save_state
from tiny_training import MODEL, mesh_of

from replay_jax.errors import UserError
from replay_jax.training.config import CheckpointConfig
from replay_jax.training.optimizer import init_optimizer
from replay_jax.training.saving.checkpoint import Checkpointer, restore_state
from replay_jax.training.saving.checksums import changed_array, checksums
from replay_jax.training.saving.saved import (
    DamagedCheckpoint,
    delete,
    is_complete,
    read_meta,
    remove_unfinished,
)
from replay_jax.training.step import TrainState, abstract_state

META = {"step": 3, "identity": "0123abcd", "nested": {"x": [1, 2.5, None]}}


def random_state(mesh):
    """A state of the tiny model with other numbers in every leaf, nothing compiled."""
    like = abstract_state(MODEL, mesh)
    random = np.random.default_rng(0)

    def leaf(abstract):
        values = random.normal(size=abstract.shape) * 1000
        return jax.device_put(values.astype(abstract.dtype), abstract.sharding)

    return jax.tree.map(leaf, like)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_state_moves_from_eight_devices_to_one_and_back(tmp_path):
    eight, one = mesh_of(2, 2, 2), mesh_of(1, 1, 1)
    first = random_state(eight)
    save_state(tmp_path / "a", first, META)
    second, meta = restore_state(tmp_path / "a", abstract_state(MODEL, one))
    assert meta == META
    save_state(tmp_path / "b", second, META)
    third, _ = restore_state(tmp_path / "b", abstract_state(MODEL, eight))
    assert_same(first, second)
    assert_same(first, third)
    assert second.params["head"].sharding.device_set == {jax.devices()[0]}
    assert third.params["head"].sharding.spec == PartitionSpec("fsdp", "tensor")
    assert isinstance(third, TrainState) and third.opt_state.count.dtype == jnp.int32


def test_checksums_are_those_of_the_bits_on_any_mesh():
    eight, one = random_state(mesh_of(2, 2, 2)), random_state(mesh_of(1, 1, 1))
    sums = checksums(eight)
    assert sums == checksums(one) and len(sums) == len(jax.tree.leaves(one))
    bits = np.asarray(one.params["head"]).view(np.uint32).astype(np.uint64).ravel()
    factors = (2 * np.arange(bits.size, dtype=np.uint64) + 1) * 0x9E3779B9 % 2**32
    assert sums["params.head"] == int((bits * factors % 2**32).sum() % 2**32)
    assert changed_array(one, sums) == ""
    assert changed_array(one, {**sums, "params.head": sums["params.head"] ^ 1}) == "params.head"


def test_one_changed_bit_of_a_saved_array_is_damage(tmp_path):
    """What Orbax 0.12 writes has no checksum of the arrays themselves.

    Where the bit is one of the packing, which lies elsewhere every time, the array cannot be read.
    """
    mesh = mesh_of(1, 1, 1)
    save_state(tmp_path / "state", random_state(mesh), META)
    files = [path for path in (tmp_path / "state").rglob("d/*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content, said = largest.read_bytes(), []
    for part in (1, 2, 3):
        changed = bytearray(content)
        changed[part * len(content) // 4] ^= 1
        largest.write_bytes(changed)
        with pytest.raises(DamagedCheckpoint) as refused:
            restore_state(tmp_path / "state", abstract_state(MODEL, mesh))
        said.append("is not what was saved" in str(refused.value))
    assert any(said)


def test_brackets_in_a_folder_are_letters(tmp_path):
    folder = tmp_path / "study [2026]*"
    folder.mkdir()
    mesh = mesh_of(1, 1, 1)
    state = random_state(mesh)
    save_state(folder / "state", state, META)
    assert [item.name for item in folder.iterdir()] == ["state"]
    restored, meta = restore_state(folder / "state", abstract_state(MODEL, mesh))
    assert meta == META
    for left, right in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def test_a_saved_state_may_be_donated_at_once(tmp_path):
    """The next update overwrites the buffers while the save is still running."""
    overwrite = jax.jit(lambda x: jax.tree.map(lambda a: -a - 1, x), donate_argnums=0)
    other = {"x": jnp.arange(1 << 20, dtype=jnp.float32)}
    overwrite(other)
    assert other["x"].is_deleted(), "the program must overwrite, or the test says nothing"
    state = {"x": jnp.arange(1 << 20, dtype=jnp.float32)}
    with Checkpointer() as checkpointer:
        checkpointer.save(tmp_path / "a", state, META)
        state = overwrite(state)
        jax.block_until_ready(state)
    restored, _ = restore_state(tmp_path / "a", abstract(state))
    np.testing.assert_array_equal(restored["x"], np.arange(1 << 20, dtype=np.float32))
    np.testing.assert_array_equal(state["x"], -np.arange(1 << 20, dtype=np.float32) - 1)


def abstract(tree):
    sharding = NamedSharding(mesh_of(1, 1, 1), PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


SMALL = {"x": jnp.arange(8.0), "y": init_optimizer({"z": jnp.ones((2, 2))})}


def test_what_an_interrupted_save_leaves_is_not_a_checkpoint(tmp_path):
    for name in ("5", "10", "15"):
        save_state(tmp_path / name, SMALL, {"step": int(name)})
    # A killed save: Orbax's temporary directory; on an object store, no commit file.
    (tmp_path / "15").rename(tmp_path / "15.orbax-checkpoint-tmp-1")
    (tmp_path / "10" / "commit_success.txt").unlink()
    assert {path.name for path in tmp_path.iterdir() if is_complete(path)} == {"5"}
    with pytest.raises(DamagedCheckpoint, match="no complete checkpoint at .*/10'"):
        restore_state(tmp_path / "10", abstract(SMALL))
    # The same step can be saved again, and the rest be swept away.
    save_state(tmp_path / "10", SMALL, {"step": 10, "again": True})
    assert read_meta(tmp_path / "10")["again"]
    # Nor does a killed save of the same path stand in the way.
    (tmp_path / "20.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    save_state(tmp_path / "20", SMALL, {})
    assert is_complete(tmp_path / "20")
    delete(tmp_path / "20")
    delete(tmp_path / "20")
    assert remove_unfinished(tmp_path) == ("15.orbax-checkpoint-tmp-1",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "5"]


def test_a_complete_checkpoint_is_not_overwritten(tmp_path):
    save_state(tmp_path / "a", SMALL, {"first": True})
    with pytest.raises(UserError, match="exists already"):
        save_state(tmp_path / "a", SMALL, {"first": False})
    assert read_meta(tmp_path / "a")["first"]


@pytest.mark.parametrize("damage", ["truncate", "remove", "meta"])
def test_damage_is_found_and_named(tmp_path, damage):
    path = tmp_path / "a"
    save_state(path, {"x": jnp.asarray(np.random.default_rng(0).normal(size=4096))}, META)
    files = [f for f in (path / "state").rglob("*") if f.is_file() and f.parent.name == "d"]
    largest = max(files, key=lambda f: f.stat().st_size)
    content = largest.read_bytes()
    if damage == "truncate":
        largest.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        largest.unlink()
    else:
        (path / "meta" / "metadata").write_text("{")
    with pytest.raises(DamagedCheckpoint, match=f"'{path}' cannot be read"):
        restore_state(path, abstract({"x": jnp.ones(4096)}))


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"x": jnp.ones(9), "y": SMALL["y"]}, r"has x as \(8,\), but the model has it as \(9,\)"),
        ({"x": jnp.ones(8)}, r"has y\..* as .* has it as nothing"),
        ({**SMALL, "w": jnp.ones(1)}, r"has w as nothing, but the model has it as \(1,\)"),
    ],
)
def test_a_state_of_another_shape_is_refused(tmp_path, like, message):
    save_state(tmp_path / "a", SMALL, {})
    with pytest.raises(DamagedCheckpoint, match=message):
        restore_state(tmp_path / "a", abstract(like))


def test_a_full_disk_is_one_sentence_and_leaves_no_checkpoint(tmp_path):
    """A file size limit stands for the full disk: the write fails in the background."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = {"x": jnp.asarray(np.random.default_rng(0).normal(size=1 << 17))}
    try:
        with Checkpointer() as checkpointer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, hard))
            with pytest.raises(
                UserError, match=r"^Cannot save checkpoint '.*/a': File too large; "
            ):
                checkpointer.save(tmp_path / "a", large, META)
                checkpointer.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            # The error is said once, and the next save works.
            checkpointer.save(tmp_path / "b", large, META)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not is_complete(tmp_path / "a")
    assert is_complete(tmp_path / "b")


def test_a_failed_save_surfaces_on_leaving_and_never_hides_another_error(tmp_path):
    (tmp_path / "file").write_text("")

    def spoilt(checkpointer):
        checkpointer.save(tmp_path / "ok", SMALL, META)
        checkpointer._orbax._async_manager._exception = OSError("No space left on device")

    with pytest.raises(UserError, match="No space left on device"), Checkpointer() as checkpointer:
        spoilt(checkpointer)
    delete(tmp_path / "ok")
    with pytest.raises(KeyboardInterrupt), Checkpointer() as checkpointer:
        spoilt(checkpointer)
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="Cannot save checkpoint"):
        save_state(tmp_path / "file" / "a", SMALL, META)


def test_meta_must_be_plain_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_state(tmp_path / "a", SMALL, {"loss": float("nan")})
    with pytest.raises(TypeError):
        save_state(tmp_path / "a", SMALL, {"rows": np.arange(3)})
    assert not (tmp_path / "a").exists()
    assert json.dumps(META)


@pytest.mark.parametrize("wrong", [{"every": -1}, {"keep": 0}])
def test_settings_out_of_range_are_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"checkpoint.{name} is"):
        CheckpointConfig(**wrong)
