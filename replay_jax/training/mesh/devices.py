"""What each kind of device is told, in one place: memory, and what its compiler may do.

A resumed run and a shared prefix are promised to change no bit (docs/sweeps.md), which XLA keeps on
CPU and TPU by itself. On GPU it does not: sums of scattered gradients, cuDNN's backward pass and
kernels chosen by timing differ from run to run unless it is told otherwise.

A coordinator reads this, whose workers alone load JAX.
"""

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay_jax.errors import UserError
from replay_jax.training.mesh.config import GPU_MEMORY_SHARE

if TYPE_CHECKING:
    import jax

# Read when JAX starts its first device.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_MEM_FRACTION": str(GPU_MEMORY_SHARE)}

# Where the system shows an accelerator, and the packages through which JAX uses it.
_ACCELERATORS = {
    "/dev/nvidia0": ("jax_cuda12_plugin", "jax_cuda13_plugin"),
    "/dev/accel0": ("libtpu",),
    "/dev/vfio/0": ("libtpu",),
}
_GPU_OPTIONS: dict[str, str | bool] = {
    # Run-to-run the same bits: no operation that has none, no kernel chosen by timing.
    "xla_gpu_deterministic_ops": True,
    # Collectives run beside compute.
    "xla_gpu_enable_latency_hiding_scheduler": True,
}


def attached_devices() -> "list[jax.Device]":
    """The devices of this job, started with ENVIRONMENT if JAX has started none yet.

    Raises UserError where JAX has none, and where it falls back to the CPU although the machine has
    an accelerator and the package for it, unless JAX_PLATFORMS asks for that.
    """
    import jax

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    asked_for = jax.config.jax_platforms  # type: ignore[attr-defined]
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # it asserts that some platform could start
        why = str(error).strip().split("\n")[-1] or "no platform could be started"
        raise no_devices(asked_for, why) from error
    if devices[0].platform != "cpu" or asked_for:
        return devices
    for place, packages in _ACCELERATORS.items():
        if Path(place).exists() and any(map(importlib.util.find_spec, packages)):
            raise UserError(
                f"This machine has {place}, but JAX cannot start it, most often because another "
                "process holds it: end that process (fuser -v shows it), or set JAX_PLATFORMS=cpu "
                "to train on the CPU."
            )
    return devices


def no_devices(asked_for: str | None, why: str) -> UserError:
    """What the user is told where JAX starts on nothing, as when another process holds a device."""
    setting = f"JAX_PLATFORMS={asked_for}" if asked_for else "JAX_PLATFORMS is not set"
    return UserError(
        f"JAX finds no devices here ({setting}): {why}; set JAX_PLATFORMS to a platform that is "
        "there, such as cpu"
    )


def check_gpu(device: "jax.Device", compute_dtype: str) -> None:
    """Raise UserError for a GPU that is too old for a dtype, which XLA computes slowly or not."""
    capability = getattr(device, "compute_capability", None)
    if compute_dtype == "bfloat16" and capability and float(capability) < 8:
        raise UserError(
            f"model.compute_dtype bfloat16 needs a GPU of compute capability 8.0 (A100) or newer, "
            f"and a {device.device_kind} has {capability}; set it to float32."
        )


def compiler_options(platform: str) -> dict[str, str | bool] | None:
    """What the compiler is told for a platform ("cpu", "gpu", "cuda", "tpu"); None is nothing."""
    return _GPU_OPTIONS if platform in ("gpu", "cuda") else None


def init_options(platform: str) -> dict[str, Any] | None:
    """The same for the program that draws a fresh state.

    Its random bits are run once and compile slowly: on a CPU, level 1 halves the compile time (4.5
    to 2.0 s, preset "tiny", measured 2026-11-23) and gives the same bits. A level that the user set
    in XLA_FLAGS stays.
    """
    level = "xla_backend_optimization_level"
    if platform != "cpu" or level in os.environ.get("XLA_FLAGS", ""):
        return compiler_options(platform)
    return {level: 1}
