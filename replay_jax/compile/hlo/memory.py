"""HBM bytes that an instruction of a compiled program moves, with all that it has fused.

A fusion moves what its operands are read for and what its results add: slices of a stack are
read and written alone, arrays in on-chip memories (VMEM, CMEM) move nothing. A collective that
the TPU compiler runs beside compute is three fusions (start, work meanwhile, done) that each name
it; its bytes are counted at the start.
"""

import re

from replay_jax.compile.hlo.collectives import COLLECTIVES
from replay_jax.compile.hlo.matmuls import kernel_cost
from replay_jax.compile.hlo.text import Computation, Instruction, Module, Shape

_VIEWS = ("bitcast", "convert", "copy", "reshape", "transpose")
# Custom calls with which XLA names or hands over memory; they run nothing.
_FREE_CALLS = ("AllocateBuffer", "ConcatBitcast", "SliceBitcast", "Sharding")
ASYNC_START, ASYNC_DONE = "AsyncCollectiveStart", "AsyncCollectiveDone"


def fused(module: Module, instruction: Instruction) -> Computation | None:
    """The computation that a fusion stands for, or None for other instructions."""
    name = instruction.called("calls") if instruction.opcode == "fusion" else None
    return module.computations[name] if name else None


def is_call_of(instruction: Instruction, *targets: str) -> bool:
    """Whether an instruction is a custom call of one of these targets."""
    found = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    return instruction.opcode == "custom-call" and found is not None and found[1] in targets


def calls(inner: Computation, target: str) -> bool:
    """Whether a fused computation holds a custom call of the target."""
    return any(is_call_of(instruction, target) for instruction in inner.instructions.values())


def hbm_bytes(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes that an instruction reads from and writes to HBM."""
    operands = [_array(computation, name) for name in instruction.operands]
    read = sum(shape.hbm_bytes for shape in operands)
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
            return _fusion_bytes(module, instruction, operands)
        case "custom-call":
            if is_call_of(instruction, *_FREE_CALLS):
                return 0.0
            known = kernel_cost(computation, instruction)
            return read + written + (known.reread_bytes if known else 0.0)
        case code if code.endswith("-start"):
            # The pair (operands, results), or for an all-reduce the results alone.
            own = instruction.shapes[len(operands) :][: len(operands)] or instruction.shapes
            return read + sum(shape.hbm_bytes for shape in own)
    return read + written


def _fusion_bytes(module: Module, instruction: Instruction, operands: list[Shape]) -> float:
    """HBM bytes of a fusion: per operand what is read of it, per result what is written."""
    inner = fused(module, instruction)
    if inner is None or calls(inner, ASYNC_DONE):
        return 0.0
    read = sum(
        min(shape.hbm_bytes, _read_of(module, inner, inner.parameters[number]))
        for number, shape in enumerate(operands)
        if shape.hbm_bytes
    )
    if is_call_of(inner.root, ASYNC_START):  # (operand, result, flags...)
        return read + instruction.shapes[1].hbm_bytes
    results = _results(inner)
    if len(results) != len(instruction.shapes):  # one operation of several results, as on GPU
        return read + sum(shape.hbm_bytes for shape in instruction.shapes)
    return read + sum(
        _written_to(module, inner, result)
        for result, shape in zip(results, instruction.shapes, strict=True)
        if not shape.memory_space
    )


def _read_of(module: Module, inner: Computation, value: Instruction) -> float:
    """Bytes that a fused computation reads of one of its values."""
    total = 0.0
    for user in inner.users[value.name]:
        is_first = user.operands[0] == value.name
        if user.opcode in ("dynamic-slice", "slice", "gather") and is_first:
            total += user.shapes[0].bytes
        elif user.opcode in ("dynamic-update-slice", "scatter") and is_first:
            total += 0.0  # updated in place
        elif user is inner.root and user.opcode == "tuple":
            total += 0.0  # handed through
        elif user.opcode in COLLECTIVES and not counts_here(inner, user):
            total += 0.0
        elif user.opcode in _VIEWS:
            total += _read_of(module, inner, user)
        elif user.opcode == "fusion":
            nested = fused(module, user)
            assert nested is not None
            numbers = [n for n, name in enumerate(user.operands) if name == value.name]
            total += sum(_read_of(module, nested, nested.parameters[n]) for n in numbers)
        else:
            return value.shapes[0].bytes
    is_result = value is inner.root and value.opcode != "parameter"
    return total or (value.shapes[0].bytes if is_result else 0.0)


def counts_here(inner: Computation, collective: Instruction) -> bool:
    """Whether a fused collective is a transfer of its own, not one that started before."""
    return calls(inner, ASYNC_START) or "chain_id=" not in collective.attributes


def _written_to(module: Module, inner: Computation, result: Instruction) -> float:
    """Bytes that a fused computation writes for one of its results."""
    while result.opcode == "bitcast":
        result = inner.instructions[result.operands[0]]
    if result.opcode == "parameter":
        return 0.0
    if result.opcode in COLLECTIVES and not counts_here(inner, result):
        return 0.0
    if result.opcode == "dynamic-update-slice":
        return _array(inner, result.operands[1]).bytes
    nested = fused(module, result)
    if nested is not None and nested.root.opcode != "tuple":
        return _written_to(module, nested, nested.root)
    return result.shapes[0].bytes


def _array(computation: Computation, name: str) -> Shape:
    """Shape of an operand; the first array of one that holds several (an async pair)."""
    return computation.instructions[name].shapes[0]


def _results(inner: Computation) -> list[Instruction]:
    """The instructions whose values a fused computation returns, in order."""
    if inner.root.opcode == "tuple":
        return [inner.instructions[name] for name in inner.root.operands]
    return [inner.root]
