"""Chips and the slices and machines they come in, with what they can do at best; free of JAX.

Peak bf16 FLOP/s, HBM and interconnect of TPU chips are those of Google Cloud's pages on each
version (cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e, read 2026-11). The pages state the
interconnect of a chip; a link carries it divided by the number of links and by two directions.
Peaks and NVLink of GPUs are those of NVIDIA's data sheets (dense bfloat16).
"""

import dataclasses
import re
from typing import Any

from replay_jax.errors import UserError
from replay_jax.training.mesh.config import GPU_MEMORY_SHARE

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
# What their drivers report, and JAX may take a share of.
GPU_MEMORY_BYTES = {"NVIDIA H100 80GB HBM3": 84_942_979_072, "NVIDIA H200": 151_397_597_184}


def _gpu(name: str, bandwidth: float) -> Chip:
    """989 TFLOP/s, and NVLink of 900 GB/s both ways."""
    memory = int(GPU_MEMORY_SHARE * GPU_MEMORY_BYTES[name])
    return Chip(name, 989e12, memory, bandwidth, 450e9, 1)


GPU_CHIPS = {"h100": _gpu("NVIDIA H100 80GB HBM3", 3.352e12), "h200": _gpu("NVIDIA H200", 4.8e12)}
KNOWN_SHAPES = {**_SLICES, **dict.fromkeys(GPU_CHIPS, ("1", "2", "4", "8"))}  # GPUs: gpus.py
# libtpu also describes slices of more axes than the chip's torus has, and of other lengths.
SHAPE_FORMS = {chip: r"\d+" + r"x\d+" * shapes[0].count("x") for chip, shapes in _SLICES.items()}
SHAPE_FORMS |= {chip: "|".join(KNOWN_SHAPES[chip]) for chip in GPU_CHIPS}


def chip_of(topology: str) -> tuple[Chip, tuple[int, ...]]:
    """The chip of a slice or machine, and how many of them it has along each axis.

    Raises:
        UserError: it is not known; the message lists those that are.
    """
    version, _, shape = topology.partition(":")
    if version not in KNOWN_SHAPES or not re.fullmatch(SHAPE_FORMS[version], shape):
        raise UserError(unknown_topology(topology, "not known"))
    return {**CHIPS, **GPU_CHIPS}[version], tuple(int(length) for length in shape.split("x"))


def tpu_of_kind(kind: str) -> Chip | None:
    """The TPU of JAX's `device_kind` ("TPU v5 lite", "TPU v5p" or "TPU v5", "TPU v4")."""
    name = "TPU v5p" if kind == "TPU v5" else re.sub(" lite$", "e", kind)
    return next((chip for chip in CHIPS.values() if chip.name == name), None)


def unknown_topology(name: str, what: str) -> str:
    """The sentence for a topology that cannot be compiled for, with all that can."""
    known = "; ".join(f"{chip}: {', '.join(shapes)}" for chip, shapes in KNOWN_SHAPES.items())
    return f"Topology {name!r} is {what}; write CHIP:SHAPE with one such as {known}."
