"""What each kind of device is told, and a machine whose accelerator JAX cannot start."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from replay_jax.errors import UserError
from replay_jax.training.mesh import devices
from replay_jax.training.mesh.devices import attached_devices, compiler_options


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
    monkeypatch.setattr(devices.jax, "config", SimpleNamespace(jax_platforms=None))
    with pytest.raises(UserError, match=f"This machine has {held}, but .*JAX_PLATFORMS=cpu"):
        attached_devices()
    monkeypatch.setattr(devices, "_ACCELERATORS", {str(held): ("no_such_package",)})
    assert attached_devices() == jax.devices()
