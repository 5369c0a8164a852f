"""What each kind of device is told, and a machine whose accelerator JAX cannot start."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from tiny_training import MODEL, SHAPE, mesh_of

from replay_jax.errors import UserError
from replay_jax.model.attention import make_attention
from replay_jax.training.mesh import devices
from replay_jax.training.mesh.choice import choose_mesh
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import (
    attached_devices,
    check_gpu,
    compiler_options,
    init_options,
)
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.step import check_shape


def test_programs_of_a_gpu_are_the_same_from_run_to_run():
    options = compiler_options("gpu")
    assert options == compiler_options("cuda") and options["xla_gpu_deterministic_ops"] is True
    # XLA refuses names that it does not know, on any platform.
    lowered = jax.jit(jnp.negative).lower(jnp.ones(2))
    lowered.compile(options)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such"):
        lowered.compile({"xla_no_such": True})
    assert compiler_options("cpu") is compiler_options("tpu") is None


def test_an_accelerator_that_jax_cannot_start_is_named(monkeypatch, tmp_path):
    held = tmp_path / "nvidia0"
    monkeypatch.setattr(devices, "_ACCELERATORS", {str(held): ("jax",)})
    held.touch()
    assert attached_devices() == jax.devices()  # JAX_PLATFORMS asks for the CPU
    monkeypatch.setattr(jax, "config", SimpleNamespace(jax_platforms=None))
    with pytest.raises(UserError, match=f"This machine has {held}, but .*JAX_PLATFORMS=cpu"):
        attached_devices()
    monkeypatch.setattr(devices, "_ACCELERATORS", {str(held): ("no_such_package",)})
    assert attached_devices() == jax.devices()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RuntimeError("Unable to initialize:\nthe TPU is already in use"), "the TPU is"),
        (AssertionError(), "no platform could be started"),  # of JAX, where CUDA has no plugin
    ],
)
def test_a_platform_that_was_asked_for_and_does_not_start_is_one_sentence(monkeypatch, error, why):
    def devices_of_jax():
        raise error

    monkeypatch.setattr(jax, "devices", devices_of_jax)
    monkeypatch.setattr(jax, "config", SimpleNamespace(jax_platforms="tpu"))
    with pytest.raises(UserError, match=rf"here \(JAX_PLATFORMS=tpu\): {why}.*; set .* as cpu$"):
        attached_devices()


def test_a_gpu_too_old_for_bfloat16_is_told_what_works(monkeypatch):
    old = SimpleNamespace(device_kind="Tesla T4", compute_capability="7.5")
    check_gpu(old, "float32")
    check_gpu(SimpleNamespace(device_kind="NVIDIA H100", compute_capability="9.0"), "bfloat16")
    check_gpu(jax.devices()[0], "bfloat16")
    with pytest.raises(UserError, match=r"needs .* 8.0 .*Tesla T4 has 7.5; set it to float32\.$"):
        check_gpu(old, "bfloat16")
    # Asked before anything is compiled.
    model = dataclasses.replace(MODEL, compute_dtype="bfloat16")
    mesh = SimpleNamespace(devices=SimpleNamespace(flat=[old]), shape=mesh_of(1, 1, 1).shape)
    with pytest.raises(UserError, match="Tesla T4"):
        check_shape(dataclasses.replace(SHAPE, model=model), mesh)


def test_a_missing_cudnn_names_the_extra_and_the_way_without(monkeypatch):
    def dot_product_attention(*_, implementation, **__):
        assert implementation == "cudnn"
        raise RuntimeError("cuDNN not found.")  # as JAX does

    monkeypatch.setattr(jax.nn, "dot_product_attention", dot_product_attention)
    attend = make_attention("auto", platform="gpu")
    heads = jax.ShapeDtypeStruct((1, 64, 2, 64), jnp.bfloat16)
    with pytest.raises(UserError) as refusal:
        jax.eval_shape(lambda q, k, v: attend(q, k, v, None), heads, heads, heads)
    said = str(refusal.value)
    assert "cuDNN not found; pip install 'replay-jax[cuda]', or set model.attention" in said
    assert "\n" not in said


def test_an_odd_number_of_devices_is_told_the_batch_that_divides():
    devices = jax.devices()[:7]
    about = {"device_bytes": 2**30, "training_bytes": SHAPE.training_bytes(average=False)}
    chosen = choose_mesh(MeshConfig(), MODEL, devices=devices, **about).config
    assert chosen == MeshConfig(7, 1, 1)
    with pytest.raises(UserError, match="16 .* over 7 devices .* training.batch_size .* is 14"):
        check_shape(SHAPE, make_mesh(chosen, devices))


def test_a_fresh_state_is_compiled_lightly_on_a_cpu_unless_the_user_says_how(monkeypatch):
    assert init_options("cuda") == compiler_options("cuda") and init_options("tpu") is None
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    assert init_options("cpu") == {"xla_backend_optimization_level": 1}
    monkeypatch.setenv("XLA_FLAGS", "--a=1 --xla_backend_optimization_level=0")
    assert init_options("cpu") is None
