"""What a step is compiled for: a named TPU slice that need not be there, or the local devices.

Peak bf16 FLOP/s, HBM and interconnect of TPU chips are those of Google Cloud's pages on each
version (cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e, read 2026-11). The pages state the
interconnect of a chip; a link carries it divided by the number of links and by two directions.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from typing import Any

import jax

from replay_jax.errors import UserError
from replay_jax.training.mesh.devices import attached_devices

_GIB = 1024**3


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do at best; rates are per second, 0 where they are not known.

    `hbm_bytes` is what the compiler lets a program use, a little less than the chip has.
    `link_bandwidth` is bytes in one direction of one link; an axis of the torus of a multiple of
    `wrap` chips is closed to a ring. `options` are what libtpu must be told so that one JAX device
    is one chip, `compiler_options` what the compiler must be told.
    """

    name: str
    peak_flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    wrap: int
    options: tuple[tuple[str, Any], ...] = ()
    compiler_options: tuple[tuple[str, str], ...] = ()


_MEGACORE = (("chip_config_name", "megacore"),)
# jaxlib 0.10.2 cannot print a program in which libtpu 0.0.52 gives the embedding's look-up to the
# SparseCores ("async-update instruction should have 1 operands"), so that is switched off.
_NO_SPARSE_GATHER = (("xla_tpu_offload_gather_to_sparsecore", "false"),)

# HBM bytes are those in libtpu 0.0.52's own message when a program does not fit.
CHIPS: dict[str, Chip] = {
    # 275 TFLOP/s, 32 GiB at 1200 GB/s; six links of 50 GB/s each way (Jouppi et al. 2023,
    # arXiv 2304.01433, table 4).
    "v4": Chip("TPU v4", 275e12, int(30.75 * _GIB), 1200e9, 50e9, 4, _MEGACORE),
    # 197 TFLOP/s, 16 GB at 819 GB/s; 400 GB/s both ways over four links.
    "v5e": Chip("TPU v5e", 197e12, int(15.75 * _GIB), 819e9, 50e9, 16),
    # 459 TFLOP/s, 95 GiB at 2765 GB/s; 1200 GB/s both ways over six links.
    "v5p": Chip(
        "TPU v5p", 459e12, int(95.73 * _GIB), 2765e9, 100e9, 4, _MEGACORE, _NO_SPARSE_GATHER
    ),
    # 918 TFLOP/s, 32 GB at 1638 GB/s; 800 GB/s both ways over four links.
    "v6e": Chip("TPU v6e", 918e12, int(31.24 * _GIB), 1638e9, 100e9, 16, (), _NO_SPARSE_GATHER),
}
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
_SQUARES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
# Shapes that Google Cloud rents, up to 512 chips; each was described by libtpu 0.0.52.
_SLICES = {"v4": _CUBES, "v5e": _SQUARES, "v5p": _CUBES, "v6e": _SQUARES}
# libtpu also describes slices of more axes than the chip's torus has.
_FORMS = {chip: r"\d+" + r"x\d+" * shapes[0].count("x") for chip, shapes in _SLICES.items()}
_MACHINES = ("1", "2", "4", "8")
KNOWN_SHAPES = {**_SLICES, "h100": _MACHINES, "h200": _MACHINES}  # GPUs: gpu_machine.py


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for: their name, chip, extent per axis of the torus, and descriptions."""

    name: str
    chip: Chip
    extent: tuple[int, ...]
    devices: tuple[jax.Device, ...]


def tpu_slice(name: str) -> Target:
    """Describe a TPU slice such as "v4:4x4x4", one device per chip; no TPU is needed or used.

    Makes the CPU this process's own backend if it has none yet, so that a TPU that is attached
    stays free for the process that trains on it.

    Raises:
        UserError: the slice is not known (the message lists those that are), or libtpu is missing.
    """
    version, _, shape = name.partition(":")
    if version not in CHIPS or not re.fullmatch(_FORMS[version], shape):
        raise UserError(unknown_topology(name, "not known"))
    try:
        import libtpu  # noqa: F401
    except ImportError as missing:
        if shape not in KNOWN_SHAPES[version]:
            raise UserError(unknown_topology(name, "not known")) from missing
        raise UserError(
            f"Compiling for {name} needs libtpu, which is not installed; "
            "pip install 'replay-jax[tpu-compile]' (Linux; no TPU is needed)."
        ) from missing
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    # libtpu locks itself to one process per machine, which matters only to those that use a TPU.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    chip = CHIPS[version]
    try:
        # Also shapes that are not in the table: only libtpu knows all.
        description = topologies.get_topology_desc(
            platform="tpu", topology_name=name, **dict(chip.options)
        )
    except jax.errors.JaxRuntimeError as refusal:
        why = str(refusal).removeprefix("INVALID_ARGUMENT: ").split("\n")[0]
        raise UserError(unknown_topology(name, f"not known to libtpu ({why})")) from refusal
    extent = tuple(int(length) for length in shape.split("x"))
    return Target(name, chip, extent, tuple(description.devices))


def unknown_topology(name: str, what: str) -> str:
    """The sentence for a topology that cannot be compiled for, with all that can."""
    known = "; ".join(f"{chip}: {', '.join(shapes)}" for chip, shapes in KNOWN_SHAPES.items())
    return f"Topology {name!r} is {what}; write CHIP:SHAPE with one such as {known}."


def local_devices() -> Target:
    """Describe the devices of this process; of a chip that is not in the table only the memory.

    No speed is measured for one: on a CPU, whose caches the estimate knows nothing of, it came out
    above the time that steps really took.
    """
    devices = tuple(attached_devices())
    found = [chip for chip in CHIPS.values() if _same_kind(chip.name, devices[0].device_kind)]
    chip = found[0] if found else _unknown_chip(devices[0], len(jax.local_devices()))
    return Target("local", chip, (len(devices),), devices)


def wire_bandwidth(target: Target, devices: Sequence[jax.Device]) -> float:
    """Bytes/s that each device of a group can send to the others of the group.

    On a torus a group uses the links of the axes along which it extends: two for an axis that is
    closed to a ring and wholly used, one otherwise. Elsewhere it is the chip's one link.
    """
    coords = [getattr(device, "coords", None) for device in devices]
    links = 0
    for axis, length in enumerate(target.extent):
        used = {c[axis] for c in coords if c is not None}
        if len(used) > 1:
            links += 2 if len(used) == length and length % target.chip.wrap == 0 else 1
    return max(links, 1) * target.chip.link_bandwidth


def _same_kind(chip: str, kind: str) -> bool:
    """Whether JAX's `device_kind` ("TPU v5 lite", "TPU v5p", "TPU v4") is the chip of a name."""
    lite = re.sub(r" lite$", "e", kind)
    return chip == ("TPU v5p" if lite == "TPU v5" else lite)


def _unknown_chip(device: jax.Device, sharing: int) -> Chip:
    """A device of no known speeds; `sharing` devices share the machine's memory (fake CPU ones)."""
    stats = device.memory_stats() or {}
    memory = int(stats["bytes_limit"]) if "bytes_limit" in stats else host_memory() // sharing
    return Chip(device.device_kind, 0.0, memory, 0.0, 0.0, wrap=1)


def host_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
