"""Reads transfers between devices from HLO: who talks to whom, and how many bytes each sends."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from replay_jax.compile.hlo.text import Computation, Instruction, Module, parse_module, trip_count

# Bytes that a device of n sends in a ring, over those of what it gives to the transfer.
_RING = {
    "all-gather": lambda n: n - 1,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1,
    "collective-broadcast": lambda n: 1,
}
# The TPU compiler's marks on a transfer that runs beside compute: the fusion that starts it has a
# call of the first name, and it is named again, with the second, in those that follow.
_STARTED, _FOLLOWED = 'custom_call_target="AsyncCollectiveStart"', "chain_id="
_PRODUCTS = ("dot", "convolution")


@dataclass(frozen=True)
class Transfer:
    """A transfer: its kind, one group of devices that take part, what each of them sends.

    `group` holds positions in the program's device order. `wire_bytes` is what a device sends in
    a ring: (n-1)/n of the gathered or scattered array, twice that for an all-reduce (Thakur,
    Rabenseifner and Gropp 2005, "Optimization of collective communication operations in MPICH").
    It is made `times` in a step; `beside_compute` are those that other instructions run beside.
    """

    kind: str
    group: tuple[int, ...]
    wire_bytes: float
    times: int
    beside_compute: bool


@dataclass(frozen=True)
class Transfers:
    """All of a program, those of `unknown_loops` counted as if these ran once."""

    every: tuple[Transfer, ...]
    unknown_loops: tuple[str, ...]

    @property
    def bytes(self) -> float:
        """Bytes that one device sends to others."""
        return sum(each.times * each.wire_bytes for each in self.every)


def transfers(text: str, *, devices: int) -> Transfers:
    """The transfers of a compiled program for `devices` (`jax.stages.Compiled.as_text`)."""
    module = parse_module(text)
    walk = _Walk(module, devices, [])
    every = tuple(walk.made_by(module.computations[module.entry], times=1, beside=False))
    return Transfers(every, tuple(walk.unknown_loops))


@dataclass(frozen=True)
class _Walk:
    module: Module
    devices: int
    unknown_loops: list[str]

    def made_by(
        self, computation: Computation, *, times: int, beside: bool, fused: bool = False
    ) -> Iterator[Transfer]:
        """Transfers of a computation that is run `times` times, calls and loops followed."""
        starts = any(_STARTED in each.attributes for each in computation.instructions.values())
        for instruction in computation.instructions.values():
            code = instruction.opcode
            if code.removesuffix("-start") in _RING:
                if starts or _FOLLOWED not in instruction.attributes:
                    is_started = beside or starts or code.endswith("-start")
                    kind, group, wire = self._ring(computation, instruction, fused)
                    yield Transfer(kind, group, wire, times, is_started)
                continue
            if code.endswith(("-done", "-update")):  # name again what was started
                continue
            # XLA fuses a transfer with the products that it is to run beside.
            is_beside = beside or code == "async-start" or self._fuses_products(instruction)
            count, is_fused = times * self._turns(computation, instruction), code == "fusion"
            for name in instruction.called:
                inner = self.module.computations[name]
                yield from self.made_by(inner, times=count, beside=is_beside, fused=is_fused)

    def _ring(
        self, computation: Computation, instruction: Instruction, fused: bool
    ) -> tuple[str, tuple[int, ...], float]:
        """Kind, group and wire bytes of a transfer."""
        kind = instruction.opcode.removesuffix("-start")
        if fused and kind == "all-reduce" and _is_sliced(computation, instruction):
            kind = "reduce-scatter"
        given = sum(computation.instructions[name].sizes[0] for name in instruction.operands)
        group = device_group(instruction.attributes, self.devices)
        return kind, group, float(given * _RING[kind](len(group)))

    def _turns(self, computation: Computation, instruction: Instruction) -> int:
        """How often what an instruction calls is run."""
        if instruction.opcode != "while":
            return 1
        turns = trip_count(self.module, instruction, computation)
        if turns is None:
            self.unknown_loops.append(instruction.name)
        return 1 if turns is None else turns

    def _fuses_products(self, instruction: Instruction) -> bool:
        """Whether an instruction is a fusion with a matrix product in it."""
        if instruction.opcode != "fusion":
            return False
        inner = (self.module.computations[name] for name in instruction.called)
        parts = (part for each in inner for part in each.instructions.values())
        return any(part.opcode in _PRODUCTS or self._fuses_products(part) for part in parts)


def _is_sliced(computation: Computation, instruction: Instruction) -> bool:
    """Whether a slice is all that is read of a value: of a sum, the TPU's reduce-scatter."""
    every = computation.instructions.values()
    return [each.opcode for each in every if instruction.name in each.operands] == ["dynamic-slice"]


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
