"""What each executed instruction of a compiled program costs: FLOPs, HBM bytes, bytes on the wire.

Loops count as often as they run. An instruction inside a fusion moves no memory of its own; a
fusion that reads or writes a slice of an array moves only the slice. Arrays in on-chip memories
(VMEM, CMEM) move no HBM bytes. Only matrix products and convolutions count as FLOPs.
"""

import dataclasses
from collections.abc import Iterator

from replay_jax.training.hlo import Computation, Instruction, Module, Shape, trip_count
from replay_jax.training.hlo_collective import (
    COLLECTIVES,
    Collective,
    as_reduce_scatter,
    read_collective,
)
from replay_jax.training.hlo_matmul import kernel_cost, matrix_flops, matrix_passes

_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "add-dependency",
)  # fmt: skip
_VIEWS = ("bitcast", "convert", "copy", "reshape", "transpose")
# Custom calls with which XLA names or hands over memory; they run nothing.
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "SliceBitcast", "Sharding")


@dataclasses.dataclass(frozen=True)
class OpCost:
    """The cost of one execution of an instruction, and how often it is executed in a step.

    `passes` says how often the matrix units repeat `flops` to reach the precision asked for, and
    `beside_compute` marks transfers that run while other instructions do.
    """

    name: str
    op_name: str
    opcode: str
    times: int
    flops: float
    passes: int
    hbm_bytes: float
    beside_compute: bool
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True)
class ProgramCost:
    """Every executed instruction that costs anything; `unknown_loops` were counted once."""

    ops: tuple[OpCost, ...]
    unknown_loops: tuple[str, ...]

    @property
    def flops(self) -> float:
        """Matrix FLOPs of one device."""
        return sum(op.times * op.flops for op in self.ops)

    @property
    def hbm_bytes(self) -> float:
        """Bytes that one device reads from and writes to HBM."""
        return sum(op.times * op.hbm_bytes for op in self.ops)

    @property
    def collective_bytes(self) -> float:
        """Bytes that one device sends to others."""
        return sum(op.times * c.wire_bytes for op in self.ops for c in op.collectives)


def program_cost(module: Module, *, devices: int) -> ProgramCost:
    """Cost of the program of one device out of `devices`, loops counted as often as they run."""
    walk = _Walk(module, devices, [])
    ops = tuple(walk.executed(module.computations[module.entry], times=1, asynchronous=False))
    return ProgramCost(ops, tuple(walk.unknown_loops))


@dataclasses.dataclass(frozen=True)
class _Walk:
    module: Module
    devices: int
    unknown_loops: list[str]

    def executed(
        self, computation: Computation, *, times: int, asynchronous: bool
    ) -> Iterator[OpCost]:
        """Costs of a computation that is run `times` times, calls and loops followed."""
        for instruction in computation.instructions.values():
            code = instruction.opcode
            if code == "while":
                turns = trip_count(self.module, instruction, computation)
                if turns is None:
                    self.unknown_loops.append(instruction.name)
                turns = 1 if turns is None else turns
                yield from self._called(instruction, "body", times * turns, asynchronous)
            elif code == "conditional":
                runs = [
                    list(
                        self.executed(self.module.computations[n], times=times, asynchronous=False)
                    )
                    for n in instruction.branches
                ]
                yield from max(runs, key=lambda ops: sum(op.flops + op.hbm_bytes for op in ops))
            elif code == "call":
                yield from self._called(instruction, "to_apply", times, asynchronous)
            elif code == "async-start":
                yield from self._called(instruction, "calls", times, True)
            elif code not in _FREE and not code.endswith(("-done", "-update")):
                cost = self._cost(computation, instruction, times, asynchronous)
                if cost.flops or cost.hbm_bytes or cost.collectives:
                    yield cost

    def _called(
        self, instruction: Instruction, key: str, times: int, asynchronous: bool
    ) -> Iterator[OpCost]:
        name = instruction.called(key)
        assert name is not None, f"{instruction.name} names no computation as {key}"
        inner = self.module.computations[name]
        return self.executed(inner, times=times, asynchronous=asynchronous)

    def _cost(
        self, computation: Computation, instruction: Instruction, times: int, asynchronous: bool
    ) -> OpCost:
        code = instruction.opcode
        flops, passes = self._flops(computation, instruction)
        collectives = tuple(self._collectives(computation, instruction, asynchronous))
        return OpCost(
            name=instruction.name,
            op_name=instruction.op_name,
            opcode=code,
            times=times,
            flops=flops,
            passes=passes,
            hbm_bytes=self._hbm_bytes(computation, instruction),
            beside_compute=asynchronous or code in ("copy-start", "slice-start"),
            collectives=collectives,
        )

    def _flops(self, computation: Computation, instruction: Instruction) -> tuple[float, int]:
        """Matrix FLOPs of an instruction with all it has fused, and the most passes of any."""
        if instruction.opcode in ("dot", "convolution"):
            return matrix_flops(computation, instruction), matrix_passes(instruction)
        if instruction.opcode == "custom-call":
            known = kernel_cost(computation, instruction)
            return (known.flops if known else 0.0), 1
        inner = self._fused(instruction)
        if inner is None:
            return 0.0, 1
        parts = [self._flops(inner, i) for i in inner.instructions.values()]
        return sum(flops for flops, _ in parts), max(passes for _, passes in parts)

    def _collectives(
        self, computation: Computation, instruction: Instruction, asynchronous: bool
    ) -> Iterator[Collective]:
        """Transfers of an instruction and of all it has fused."""
        if instruction.opcode.removesuffix("-start") in COLLECTIVES:
            yield read_collective(computation, instruction, self.devices, asynchronous)
        inner = self._fused(instruction)
        if inner is None:
            return
        # XLA fuses a collective with the products it is to run beside, or with its own slicing.
        beside = asynchronous or self._flops(computation, instruction)[0] > 0
        for fused in inner.instructions.values():
            for found in self._collectives(inner, fused, beside):
                yield as_reduce_scatter(found, inner, fused)

    def _fused(self, instruction: Instruction) -> Computation | None:
        name = instruction.called("calls") if instruction.opcode == "fusion" else None
        return self.module.computations[name] if name else None

    def _hbm_bytes(self, computation: Computation, instruction: Instruction) -> float:
        """Bytes an instruction moves to and from HBM."""
        operands = [_array(computation, name) for name in instruction.operands]
        written = sum(shape.hbm_bytes for shape in instruction.shapes)
        first = operands[0].hbm_bytes if operands else 0
        match instruction.opcode:
            case "copy-start" | "slice-start":
                target = instruction.shapes[0 if instruction.opcode == "copy-start" else 1]
                return target.hbm_bytes + (target.bytes if first else 0)
            case "dynamic-slice" | "slice" | "gather":
                return written + (instruction.shapes[0].bytes if first else 0)
            case "dynamic-update-slice" | "scatter":
                update = operands[1] if instruction.opcode != "scatter" else operands[-1]
                return update.hbm_bytes + (update.bytes if first else 0)
            case "fusion":
                return self._fusion_bytes(instruction, operands)
            case "custom-call":
                if any(f'"{name}"' in instruction.attributes for name in _FREE_CALLS):
                    return 0.0
                known = kernel_cost(computation, instruction)
                reread = known.reread_bytes if known else 0.0
                return written + sum(shape.hbm_bytes for shape in operands) + reread
            case code if code.endswith("-start"):
                # The pair (operands, results), or for an all-reduce the results alone.
                own = instruction.shapes[len(operands) :][: len(operands)] or instruction.shapes
                written = sum(shape.hbm_bytes for shape in own)
        return written + sum(shape.hbm_bytes for shape in operands)

    def _fusion_bytes(self, instruction: Instruction, operands: list[Shape]) -> float:
        """HBM bytes of a fusion: per operand what is read of it, per result what is written."""
        inner = self._fused(instruction)
        if inner is None:
            return 0.0
        read = [
            min(shape.hbm_bytes, self._read_of(inner, inner.parameters[number]))
            for number, shape in enumerate(operands)
            if shape.hbm_bytes
        ]
        results = _results(inner)
        written = [
            self._written_to(inner, result)
            for result, shape in zip(results, instruction.shapes, strict=True)
            if not shape.memory_space
        ]
        return float(sum(read) + sum(written))

    def _read_of(self, inner: Computation, value: Instruction) -> float:
        """Bytes that a fused computation reads of one of its values."""
        total = 0.0
        for user in inner.users[value.name]:
            is_first = user.operands[0] == value.name
            if user.opcode in ("dynamic-slice", "slice", "gather") and is_first:
                total += user.shapes[0].bytes
            elif user.opcode in ("dynamic-update-slice", "scatter") and is_first:
                total += 0.0  # updated in place
            elif user.opcode in _VIEWS:
                total += self._read_of(inner, user)
            elif user.opcode == "fusion":
                nested = self._fused(user)
                assert nested is not None
                numbers = [n for n, name in enumerate(user.operands) if name == value.name]
                total += sum(self._read_of(nested, nested.parameters[n]) for n in numbers)
            else:
                return value.shapes[0].bytes
        return total or (value.shapes[0].bytes if value.name == inner.root.name else 0.0)

    def _written_to(self, inner: Computation, result: Instruction) -> float:
        """Bytes that a fused computation writes for one of its results."""
        while result.opcode == "bitcast":
            result = inner.instructions[result.operands[0]]
        if result.opcode == "dynamic-update-slice":
            return _array(inner, result.operands[1]).bytes
        nested = self._fused(result)
        if nested is not None and nested.root.opcode != "tuple":
            return self._written_to(nested, nested.root)
        return result.shapes[0].bytes


def _array(computation: Computation, name: str) -> Shape:
    """Shape of an operand; the first array of one that holds several (an async pair)."""
    return computation.instructions[name].shapes[0]


def _results(inner: Computation) -> list[Instruction]:
    """The instructions whose values a fused computation returns, in order."""
    if inner.root.opcode == "tuple":
        return [inner.instructions[name] for name in inner.root.operands]
    return [inner.root]
