"""Reads the text of an optimised HLO module: computations, sizes of arrays, lengths of loops.

Only what counting transfers needs is read. XLA's own cost analysis counts the body of a loop once
and says nothing of transfers.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{[^{}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
# No argument has a parenthesis in it, but constants that are not numbers.
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>.*?) (?P<opcode>[\w\-]+)"
    r"\((?P<argument>.*?)\)(?P<attributes>.*)"
)
_SAME_VALUE = ("copy", "bitcast", "convert", "copy-done", "reshape")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(
    r"\b(?:body|calls|to_apply|true_computation|false_computation)=%([\w.\-]+)"
    r"|\bbranch_computations=\{([^}]*)\}"
)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation; `sizes` are the bytes of the arrays of its result in order."""

    name: str
    opcode: str
    sizes: tuple[int, ...]
    operands: tuple[str, ...]
    argument: str
    attributes: str

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it runs: of a branch all, of a loop its body."""
        found = _CALLED.findall(self.attributes)
        names = (name for one, several in found for name in (one, *_NAME.findall(several)))
        return tuple(filter(None, names))


@dataclass(frozen=True)
class Computation:
    """Instructions by name, and the one that is its result."""

    instructions: Mapping[str, Instruction]
    root: Instruction


@dataclass(frozen=True)
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
            if line.endswith("{") and line.startswith(("%", "ENTRY")):
                name, body = _NAME.search(line).group(1), []  # type: ignore[union-attr]
                entry = name if line.startswith("ENTRY") else entry
        elif line == "}":
            instructions = [_parse_instruction(text) for text in body]
            last = next(n for n, text in enumerate(body) if text.startswith("  ROOT "))
            computations[name] = Computation({i.name: i for i in instructions}, instructions[last])
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

    From `known_trip_count` where XLA keeps it. The TPU compiler does not, and makes loops of its
    own: of these from a counter that starts at a constant, grows by one and stays below one.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    if known:
        return int(known[1])
    condition, body = (
        module.computations[re.search(rf"\b{part}=%([\w.\-]+)", loop.attributes)[1]]  # type: ignore[index]
        for part in ("condition", "body")
    )
    compare, start = condition.root, within.instructions[loop.operands[0]]
    if compare.opcode != "compare" or "direction=LT" not in compare.attributes:
        return None
    counter, limit = compare.operands
    index = _element(condition, counter)
    if index is None or not start.opcode == body.root.opcode == "tuple":
        return None
    first, last = _constant(within, start.operands[index]), _constant(condition, limit)
    step = _counter_step(body, index)
    if first is None or last is None or not step:
        return None
    return max(0, -((first - last) // step))


def _origin(computation: Computation, name: str) -> Instruction:
    """The instruction that makes a value, seen through copies."""
    instruction = computation.instructions[name]
    while instruction.opcode in _SAME_VALUE:
        instruction = computation.instructions[instruction.operands[0]]
    return instruction


def _constant(computation: Computation, name: str) -> int | None:
    """The number that a scalar is, None where it is no constant."""
    made = _origin(computation, name)
    is_number = made.opcode == "constant" and re.fullmatch(r"-?\d+", made.argument)
    return int(made.argument) if is_number else None


def _element(computation: Computation, name: str) -> int | None:
    """Which element of the loop's state a value is."""
    made = _origin(computation, name)
    found = re.search(r"\bindex=(\d+)", made.attributes)
    return int(found[1]) if found and made.opcode == "get-tuple-element" else None


def _counter_step(body: Computation, index: int) -> int | None:
    """The positive constant that one turn of the loop adds to an element of its state."""
    update = _origin(body, body.root.operands[index])
    if update.opcode != "add":
        return None
    for own, other in (update.operands, update.operands[::-1]):
        step = _constant(body, other)
        if _element(body, own) == index and step is not None and step > 0:
            return step
    return None


def _parse_instruction(line: str) -> Instruction:
    parts = _INSTRUCTION.match(_COMMENT.sub("", line))
    if parts is None:
        raise ValueError(f"an instruction of the HLO text could not be read: {line[:80]}")
    return Instruction(
        name=parts["name"],
        opcode=parts["opcode"],
        sizes=tuple(_bytes(dtype, dims) for dtype, dims in _ARRAY.findall(parts["shape"])),
        operands=tuple(_NAME.findall(parts["argument"])),
        argument=parts["argument"],
        attributes=parts["attributes"],
    )


def _bytes(dtype: str, dims: str) -> int:
    """Bytes of an array without padding: "bf16" and "128,<=64"; 0 for a token."""
    bits = 8 if dtype == "pred" else int((re.search(r"\d+", dtype) or ["0"])[0])
    return math.prod(int(size.strip("<=")) for size in dims.split(",") if size) * bits // 8
