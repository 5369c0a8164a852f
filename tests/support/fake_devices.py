"""How many CPU devices a process of the suite has, and how its programs are compiled."""

import os
from collections.abc import Mapping

from jaxlib.version import __version_info__ as jaxlib_version


def flags(devices: int) -> str:
    """XLA_FLAGS of a process with so many devices.

    Compiling dominates the suite and the programs are tiny, so LLVM does not optimize, fusions come
    from XLA's plain emitter while it has one (a train step: 2.8 to 1.1 CPU seconds), and a program
    is not taken apart to be compiled in parallel, each part with declarations of its own (0.8 to
    0.6). The TPU compiler ends the process at a flag that it does not know: a test that compiles
    with it takes them out of the environment.
    """
    count = f"--xla_force_host_platform_device_count={devices}"
    plain = " --xla_cpu_use_fusion_emitters=false" if jaxlib_version < (0, 11) else ""
    whole = "--xla_cpu_parallel_codegen_split_count=1"
    return f"{count} --xla_backend_optimization_level=0 {whole}{plain}"


def with_devices(devices: int) -> Mapping[str, str]:
    """The environment of a process with so many devices (without it, a process has one)."""
    return {**os.environ, "XLA_FLAGS": flags(devices)}
