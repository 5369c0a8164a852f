"""Reads the text of an optimized HLO module: computations, instructions, shapes, loop lengths.

XLA's own cost analysis counts the body of a loop once and keeps no record per instruction, so
`roofline` walks the text itself. Only what that walk needs is parsed.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

_BITS = {
    "pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16,
    "s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64, "c128": 128,
    "f8e4m3fn": 8, "f8e5m2": 8, "f8e4m3": 8, "f8e4m3b11fnuz": 8, "token": 0, "opaque": 0,
}  # fmt: skip
_LEAF = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_COMMENT = re.compile(r"/\*.*?\*/")
_SAME_VALUE = ("copy", "bitcast", "convert", "copy-done", "reshape")


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array: element type, dimensions, and its layout as XLA prints it."""

    dtype: str
    dims: tuple[int, ...]
    layout: str

    @property
    def elements(self) -> int:
        """Number of elements, without padding."""
        return math.prod(self.dims)

    @property
    def memory_space(self) -> int:
        """0 is HBM (or host memory on CPU); others are on-chip memories such as VMEM and CMEM."""
        found = re.search(r"S\((\d+)\)", self.layout)
        return int(found.group(1)) if found else 0

    @property
    def bytes(self) -> int:
        """Bytes occupied, the two minor dimensions padded to the first tile of the layout.

        A bf16 array whose minor dimension is 64 occupies (and moves) twice its elements on a TPU.
        """
        dims = list(self.dims)
        tile = re.search(r":T\((\d+),(\d+)\)", self.layout)
        if tile and len(dims) >= 2:
            minor = [int(i) for i in self.layout.split(":")[0].split(",")]
            for dim, multiple in zip(minor[:2], (int(tile[2]), int(tile[1])), strict=True):
                dims[dim] = -(-dims[dim] // multiple) * multiple
        return math.prod(dims) * _BITS[self.dtype] // 8

    @property
    def hbm_bytes(self) -> int:
        """Bytes occupied in HBM: 0 for an array that lives in an on-chip memory."""
        return 0 if self.memory_space else self.bytes


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation; `shapes` are the leaves of its result in order."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    argument: str
    attributes: str

    def called(self, key: str) -> str | None:
        """Name of the computation given as `key=%name`, or None."""
        found = re.search(rf"\b{key}=%([\w.\-]+)", self.attributes)
        return found.group(1) if found else None

    def numbers(self, key: str) -> tuple[int, ...]:
        """The integers of an attribute such as `dimensions={1,2}`; empty if it is not there."""
        found = re.search(rf"\b{key}=\{{([\d,]*)\}}", self.attributes)
        return tuple(int(n) for n in found.group(1).split(",") if n) if found else ()

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the computations that a `conditional` chooses from."""
        found = re.search(r"branch_computations=\{([^}]*)\}", self.attributes)
        if found:
            return tuple(_NAME.findall(found.group(1)))
        pair = self.called("true_computation"), self.called("false_computation")
        return tuple(name for name in pair if name)

    @property
    def op_name(self) -> str:
        """Where the instruction comes from in the traced program, e.g. `jit(f)/while/body/dot`."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in order of execution where the module is scheduled."""

    name: str
    instructions: Mapping[str, Instruction]
    root: Instruction

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Parameter instructions by their number."""
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return {int(i.argument): i for i in found}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """For each name, the instructions that read it."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                users[operand].append(instruction)
        return users


@dataclasses.dataclass(frozen=True)
class Module:
    """All computations of a program and the name of the one that is run."""

    computations: Mapping[str, Computation]
    entry: str


def parse_module(text: str) -> Module:
    """Parse what `jax.stages.Compiled.as_text()` returns.

    Raises:
        ValueError: the text holds no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, name = None, None
    body: list[str] = []
    for line in text.splitlines():
        if name is None:
            if line.endswith("{") and (line.startswith("%") or line.startswith("ENTRY")):
                name, body = _NAME.search(line).group(1), []  # type: ignore[union-attr]
                entry = name if line.startswith("ENTRY") else entry
        elif line == "}":
            instructions = [_parse_instruction(text) for text in body]
            root = next(i for i, text in zip(instructions, body, strict=True) if _is_root(text))
            computations[name] = Computation(name, {i.name: i for i in instructions}, root)
            name = None
        elif line.startswith("  "):
            body.append(line)
        else:  # an attribute that holds line breaks
            body[-1] += line
    if entry is None:
        raise ValueError("the HLO text holds no ENTRY computation")
    return Module(computations, entry)


def trip_count(module: Module, loop: Instruction, within: Computation) -> int | None:
    """How often the body of a `while` runs, or None where the text does not fix it.

    Taken from `known_trip_count` where XLA keeps it, else from the loop itself: a counter that
    starts at a constant, grows by a constant, and is compared with a constant.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    if known:
        return int(known.group(1))
    condition = module.computations[loop.called("condition")]  # type: ignore[index]
    body = module.computations[loop.called("body")]  # type: ignore[index]
    compare = condition.root
    direction = re.search(r"direction=(\w+)", compare.attributes)
    if compare.opcode != "compare" or direction is None:
        return None
    start = within.instructions[loop.operands[0]]
    sides = [_loop_value(condition, operand, start, within) for operand in compare.operands]
    counter = _tuple_index(condition, compare.operands[0])
    step = _counter_step(body, counter) if counter is not None else None
    if sides[0] is None or sides[1] is None or not step:
        return None
    inclusive = direction.group(1) in ("LE", "GE")
    if direction.group(1) not in ("LT", "LE", "GT", "GE"):
        return None
    return max(
        0, -(-(sides[1] - sides[0] + (step > 0) * inclusive - (step < 0) * inclusive) // step)
    )


def _is_root(line: str) -> bool:
    return line.lstrip().startswith("ROOT ")


def _parse_instruction(line: str) -> Instruction:
    """Split `%name = shape opcode(operands), attributes`."""
    left, right = _COMMENT.sub("", line).split(" = ", 1)
    if right.startswith("("):
        end = _closing(right, 0)
        shape, right = right[: end + 1], right[end + 2 :]
    else:
        shape, right = right.split(" ", 1)
    opening = right.index("(")
    closing = _closing(right, opening)
    argument = right[opening + 1 : closing]
    return Instruction(
        name=_NAME.search(left).group(1),  # type: ignore[union-attr]
        opcode=right[:opening],
        shapes=tuple(
            Shape(dtype, tuple(int(d.strip("<=")) for d in dims.split(",") if d), layout)
            for dtype, dims, layout in _LEAF.findall(shape)
        ),
        operands=tuple(_NAME.findall(argument)),
        argument=argument,
        attributes=right[closing + 1 :],
    )


def _closing(text: str, opening: int) -> int:
    """Position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    raise ValueError(f"unbalanced parentheses in HLO: {text[:80]}")


def _constant(computation: Computation, name: str) -> int | None:
    """Integer value of a scalar that is a constant, seen through copies."""
    instruction = computation.instructions[name]
    while instruction.opcode in _SAME_VALUE:
        instruction = computation.instructions[instruction.operands[0]]
    if instruction.opcode != "constant" or not re.fullmatch(r"-?\d+", instruction.argument):
        return None
    return int(instruction.argument)


def _tuple_index(computation: Computation, name: str) -> int | None:
    """The element of the loop's state that `name` is, seen through copies."""
    instruction = computation.instructions[name]
    while instruction.opcode in _SAME_VALUE:
        instruction = computation.instructions[instruction.operands[0]]
    if instruction.opcode != "get-tuple-element":
        return None
    return int(re.search(r"index=(\d+)", instruction.attributes).group(1))  # type: ignore[union-attr]


def _loop_value(
    condition: Computation, name: str, start: Instruction, within: Computation
) -> int | None:
    """A scalar of the loop's condition as it is when the loop starts."""
    value = _constant(condition, name)
    index = _tuple_index(condition, name) if value is None else None
    if value is not None or index is None or start.opcode != "tuple":
        return value
    return _constant(within, start.operands[index])


def _counter_step(body: Computation, index: int) -> int | None:
    """The constant that one turn of the loop adds to element `index` of its state."""
    if body.root.opcode != "tuple":
        return None
    update = body.instructions[body.root.operands[index]]
    while update.opcode in _SAME_VALUE:
        update = body.instructions[update.operands[0]]
    if update.opcode not in ("add", "subtract"):
        return None
    for own, other in (update.operands, update.operands[::-1]):
        step = _constant(body, other)
        if _tuple_index(body, own) == index and step is not None:
            return step if update.opcode == "add" else -step
    return None
