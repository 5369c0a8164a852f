"""What each executed instruction of a compiled program costs: FLOPs, HBM bytes, bytes on the wire.

Loops count as often as they run. Only matrix products and convolutions count as FLOPs.
"""

import dataclasses
from collections.abc import Iterator

from replay_jax.compile.hlo.collectives import (
    COLLECTIVES,
    Collective,
    as_reduce_scatter,
    read_collective,
)
from replay_jax.compile.hlo.matmuls import kernel_cost, matrix_flops, matrix_passes
from replay_jax.compile.hlo.memory import (
    ASYNC_START,
    calls,
    counts_here,
    fused,
    hbm_bytes,
    is_call_of,
)
from replay_jax.compile.hlo.text import Computation, Instruction, Module, trip_count

_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "add-dependency",
)  # fmt: skip


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
            hbm_bytes=hbm_bytes(self.module, computation, instruction),
            beside_compute=asynchronous or self._is_started(instruction),
            collectives=collectives,
        )

    def _is_started(self, instruction: Instruction) -> bool:
        """Whether an instruction only starts a transfer that others run beside."""
        inner = fused(self.module, instruction)
        return instruction.opcode.endswith("-start") or (
            inner is not None and is_call_of(inner.root, ASYNC_START)
        )

    def _flops(self, computation: Computation, instruction: Instruction) -> tuple[float, int]:
        """Matrix FLOPs of an instruction with all it has fused, and the most passes of any."""
        if instruction.opcode in ("dot", "convolution"):
            return matrix_flops(computation, instruction), matrix_passes(instruction)
        if instruction.opcode == "custom-call":
            known = kernel_cost(computation, instruction)
            return (known.flops if known else 0.0), 1
        inner = fused(self.module, instruction)
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
        inner = fused(self.module, instruction)
        if inner is None:
            return
        # XLA fuses a collective with the products it is to run beside, or with its own slicing.
        starts = calls(inner, ASYNC_START)
        beside = asynchronous or starts or self._flops(computation, instruction)[0] > 0
        for part in inner.instructions.values():
            if part.opcode in COLLECTIVES and not counts_here(inner, part):
                continue
            for found in self._collectives(inner, part, beside):
                yield as_reduce_scatter(found, inner, part)
