"""Reads transfers between devices from HLO: who talks to whom, and how many bytes each sends."""

import dataclasses
import math
import re

import numpy as np

from replay_jax.compile.hlo.text import Computation, Instruction

COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute",
    "collective-broadcast",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Collective:
    """One transfer: its kind, one group of devices that take part, what each of them sends.

    `group` holds positions in the program's device order. `wire_bytes` is what a device sends in
    a ring: (n-1)/n of the gathered or scattered array, twice that for an all-reduce (Thakur,
    Rabenseifner and Gropp 2005, "Optimization of collective communication operations in MPICH").
    """

    kind: str
    group: tuple[int, ...]
    wire_bytes: float
    asynchronous: bool


def read_collective(
    computation: Computation, instruction: Instruction, devices: int, asynchronous: bool
) -> Collective:
    """Describe a collective instruction (or the start of one) in a program for `devices`."""
    kind = instruction.opcode.removesuffix("-start")
    sent = sum(computation.instructions[name].shapes[0].bytes for name in instruction.operands)
    group = device_group(instruction.attributes, devices)
    others = len(group) - 1
    wire = {
        "all-gather": sent * others,
        "all-reduce": 2 * sent * others / len(group),
        "reduce-scatter": sent * others / len(group),
        "all-to-all": sent * others / len(group),
        "collective-permute": sent,
        "collective-broadcast": sent,
    }[kind]
    return Collective(
        kind=kind,
        group=group,
        wire_bytes=float(wire),
        asynchronous=asynchronous or instruction.opcode.endswith("-start"),
    )


def as_reduce_scatter(
    collective: Collective, fused: Computation, instruction: Instruction
) -> Collective:
    """The same, or half of it where a fusion keeps only each device's slice of an all-reduce.

    The TPU compiler writes a reduce-scatter as a fusion of an all-reduce and a dynamic-slice.
    """
    readers = [user.opcode for user in fused.users[instruction.name]]
    if collective.kind != "all-reduce" or readers != ["dynamic-slice"]:
        return collective
    return dataclasses.replace(
        collective, kind="reduce-scatter", wire_bytes=collective.wire_bytes / 2
    )


def device_group(attributes: str, devices: int) -> tuple[int, ...]:
    """The first group of devices that a collective joins, in any of XLA's notations.

    Listed `{{0,1},{2,3}}`, iota `[2,2]<=[2,2]T(1,0)`, mesh axes `mesh['a'=2,'b'=2] {'a'}`, or
    for permutes `source_target_pairs={{0,1}}`; an empty list means all devices.
    """
    pairs = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", attributes)
    if pairs:
        return int(pairs[1]), int(pairs[2])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    if listed:
        return tuple(int(n) for n in listed[1].split(","))
    iota = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if iota:
        return _iota(_ints(iota[2]), _ints(iota[3]) if iota[3] else None, _ints(iota[1])[-1])
    mesh = re.search(
        r"replica_groups=mesh\[([^\]]+)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? "
        r"\{([^}]*)\}",
        attributes,
    )
    if mesh:
        return _mesh_group(mesh[1], mesh[4])
    if re.search(r"replica_groups=\{\}", attributes):
        return tuple(range(devices))
    raise ValueError(f"the groups of a collective could not be read: {attributes[:200]}")


def _iota(dims: tuple[int, ...], order: tuple[int, ...] | None, size: int) -> tuple[int, ...]:
    ids = np.arange(math.prod(dims)).reshape(dims).transpose(order or range(len(dims)))
    return tuple(int(i) for i in ids.reshape(-1, size)[0])


def _mesh_group(axes: str, used: str) -> tuple[int, ...]:
    """Devices along the `used` axes of a mesh; `'a':(2)4` is the part of size 4 below one of 2."""
    sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", axes)}
    parts: dict[str, tuple[int, int]] = {name: (1, 1) for name in sizes}
    for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", used):
        parts[name] = (int(before), int(size)) if size else (1, sizes[name])
    ids = np.arange(math.prod(sizes.values())).reshape(tuple(sizes.values()))
    for axis, (name, (before, size)) in enumerate(parts.items()):
        stride = sizes[name] // (before * size)
        ids = np.take(ids, np.arange(size) * stride, axis=axis)
    return tuple(int(i) for i in ids.reshape(-1))


def _ints(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(","))
