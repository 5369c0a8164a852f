"""What a device can do at best, in FLOP per second: the denominator of utilisation."""

import functools
import time

import jax
import jax.numpy as jnp

from replay_jax.compile.chips import GPU_CHIPS, tpu_of_kind

# Sides of the square products whose best rate counts as the peak, by platform: large enough to be
# limited by arithmetic, small enough to take well under a second.
_SIDES = {"cpu": (1024, 2048), "gpu": (8192,), "tpu": (8192,)}

# By how the device's name begins, the first that fits; dense bfloat16, from the vendor's data
# sheets, also where a computation is in float32.
_GPUS = (
    ("NVIDIA A100", 312e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100", GPU_CHIPS["h100"].peak_flops),
    ("NVIDIA H200", GPU_CHIPS["h200"].peak_flops),
)


def known_peak(device_kind: str) -> float | None:
    """Peak of an accelerator by the name that JAX gives it, or None if it is not in the table."""
    tpu = tpu_of_kind(device_kind)
    peaks = (peak for name, peak in _GPUS if device_kind.startswith(name))
    return next(peaks, None) if tpu is None else tpu.peak_flops


@functools.cache
def process_peak(dtype: str) -> float | None:
    """Peak of all devices of this cluster; None for an accelerator that is not in the table.

    A CPU's is measured when first asked for (0.2 s): the best of three matrix products on the
    threads of this process, which its devices share.
    """
    device = jax.devices()[0]
    if device.platform == "cpu":
        return jax.process_count() * matmul_peak(dtype, repeats=3, sides=(1024,))
    peak = known_peak(device.device_kind)
    return None if peak is None else jax.device_count() * peak


def matmul_peak(
    dtype: str = "float32", *, repeats: int = 8, sides: tuple[int, ...] | None = None
) -> float:
    """Return the best rate of a square matrix product on one device, in FLOP per second."""
    best = 0.0
    for side in sides or _SIDES.get(jax.devices()[0].platform, (2048,)):
        left = jnp.ones((side, side), dtype)
        product = jax.jit(jnp.matmul).lower(left, left).compile()
        product(left, left).block_until_ready()
        for _ in range(repeats):
            start = time.perf_counter()
            product(left, left).block_until_ready()
            best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best
