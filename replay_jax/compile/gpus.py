"""One machine of NVIDIA GPUs to compile for, which need not be there.

XLA's CUDA compiler takes a description of the GPU instead of the GPU; what it would find out by
timing kernels on one, it then decides by its cost model. Memory and the numbers of units are those
that the drivers report, copied from the descriptions that XLA itself tests with (openxla/xla,
xla/backends/gpu/target_config/specs, read 2026-11); peak FLOP/s and NVLink are those of NVIDIA's
data sheets (dense bfloat16; NVLink 900 GB/s both ways).
"""

import dataclasses
import importlib.util

import jax

from replay_jax.compile.chips import (
    GPU_MEMORY_BYTES,
    GPU_PEAK_FLOPS,
    KNOWN_SHAPES,
    Chip,
    unknown_topology,
)
from replay_jax.compile.topology import Target
from replay_jax.errors import UserError
from replay_jax.training.mesh.config import GPU_MEMORY_SHARE


@dataclasses.dataclass(frozen=True)
class _Gpu:
    """A GPU as XLA wants it described, and its bfloat16 peak; both are of compute capability 9."""

    name: str
    memory_bytes: int
    bandwidth: float
    peak_flops: float

    def chip(self) -> Chip:
        return Chip(
            name=self.name,
            peak_flops=self.peak_flops,
            hbm_bytes=int(GPU_MEMORY_SHARE * self.memory_bytes),
            hbm_bandwidth=self.bandwidth,
            link_bandwidth=450e9,
            wrap=1,
        )

    def description(self) -> str:
        """XLA's `GpuTargetConfigProto` as text."""
        return f"""
            platform_name: "CUDA"
            device_description_str: "{self.name}"
            dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
            gpu_device_info {{
              cuda_compute_capability {{ major: 9 }}
              device_memory_size: {self.memory_bytes} memory_bandwidth: {self.bandwidth:.0f}
              core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98 l2_cache_size: 52428800
              threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
              shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
              shared_memory_per_core: 233472
              registers_per_block_limit: 65536 registers_per_core_limit: 65536
              block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
              driver_version: "13.0.0" runtime_version: "12.8.0"
              compile_time_toolkit_version: "12.8.0" dnn_version: "9.10.0"
            }}"""


_GPUS = {
    "h100": _Gpu(
        "NVIDIA H100 80GB HBM3", GPU_MEMORY_BYTES["h100"], 3.352e12, GPU_PEAK_FLOPS["h100"]
    ),
    "h200": _Gpu("NVIDIA H200", GPU_MEMORY_BYTES["h200"], 4.8e12, GPU_PEAK_FLOPS["h200"]),
}
GPU_CHIPS = {version: gpu.chip() for version, gpu in _GPUS.items()}


def gpu_machine(name: str) -> Target:
    """Describe a machine such as "h200:8"; no GPU is needed or used.

    Makes the CPU this process's own backend if it has none yet.

    Raises:
        UserError: the machine is not known, or JAX's CUDA plugin is missing.
    """
    version, _, count = name.partition(":")
    if version not in _GPUS or count not in KNOWN_SHAPES[version]:
        raise UserError(unknown_topology(name, "not known"))
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
        topology=f"1x1x{count}",
        target_config=_GPUS[version].description(),
    )
    return Target(name, GPU_CHIPS[version], (int(count),), tuple(description.devices))
