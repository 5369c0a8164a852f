"""One machine of NVIDIA GPUs to compile for, which need not be there.

XLA's CUDA compiler takes a description of the GPU instead of the GPU; what it would find out by
timing kernels on one, it then decides by its cost model. Memory and the numbers of units are those
that the drivers report, copied from the descriptions that XLA itself tests with (openxla/xla,
xla/backends/gpu/target_config/specs, read 2026-11).
"""

import importlib.util

import jax

from replay_jax.compile.chips import GPU_MEMORY_BYTES, Chip, chip_of
from replay_jax.compile.topology import Target
from replay_jax.errors import UserError


def gpu_machine(name: str) -> Target:
    """Describe a machine such as "h200:8"; no GPU is needed or used.

    Makes the CPU this process's own backend if it has none yet.

    Raises:
        UserError: the machine is not known, or JAX's CUDA plugin is missing.
    """
    chip, extent = chip_of(name)
    if not any(map(importlib.util.find_spec, ("jax_cuda12_plugin", "jax_cuda13_plugin"))):
        raise UserError(
            f"Compiling for {name} needs JAX's CUDA plugin, which is not installed; "
            "pip install 'replay-jax[cuda]' (Linux; no GPU is needed)."
        )
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    jax.devices()  # plugins, and with them NVIDIA's libraries, are loaded with the first backend
    description = topologies.get_topology_desc(
        platform="cuda",
        topology_name=name,
        topology=f"1x1x{extent[0]}",
        target_config=_description(chip),
    )
    return Target(name, chip, extent, tuple(description.devices))


def _description(chip: Chip) -> str:
    """A GPU as XLA wants it described: a `GpuTargetConfigProto` as text."""
    return f"""
        platform_name: "CUDA"
        device_description_str: "{chip.name}"
        dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
        gpu_device_info {{
          cuda_compute_capability {{ major: 9 }}
          device_memory_size: {GPU_MEMORY_BYTES[chip.name]}
          memory_bandwidth: {chip.hbm_bandwidth:.0f}
          core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
          threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
          shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
          shared_memory_per_core: 233472
          registers_per_block_limit: 65536 registers_per_core_limit: 65536
          block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
          driver_version: "13.0.0" runtime_version: "12.8.0"
          compile_time_toolkit_version: "12.8.0" dnn_version: "9.10.0"
        }}"""
