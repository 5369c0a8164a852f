"""Whether nested JSON values have the parts that a reader goes into, before it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NUMBER = (int, float)


@dataclass(frozen=True)
class Each:
    """The shape of every value of an object, whatever the names."""

    shape: Any


def misshapen(value: Any, shape: Any, where: str = "") -> str:
    """The first thing wrong with a value, as "losses.target is missing"; "" if nothing is.

    Args:
        value: what JSON gave.
        shape: a type or several (bool is no int; object is anything), a list of one shape for lists
            of it, a mapping of names that an object must have (it may have more) to their shapes,
            or an `Each`.
        where: dotted name of the value.
    """
    if isinstance(shape, Each):
        if not isinstance(value, Mapping):
            return _wrong(where, value, "an object")
        parts = [(item, shape.shape, _inside(where, name)) for name, item in value.items()]
    elif isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            return _wrong(where, value, "an object")
        lacking = [name for name in shape if name not in value]
        if lacking:
            return f"{_inside(where, lacking[0])} is missing"
        parts = [(value[name], inner, _inside(where, name)) for name, inner in shape.items()]
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return _wrong(where, value, "a list")
        parts = [(item, shape[0], f"{where}[{number}]") for number, item in enumerate(value)]
    else:
        return _of_another_type(value, shape, where)
    return next((wrong for part in parts if (wrong := misshapen(*part))), "")


def _of_another_type(value: Any, types: type | tuple[type, ...], where: str) -> str:
    types = types if isinstance(types, tuple) else (types,)
    if isinstance(value, int) and int in types and abs(value) >= 1 << 63:
        # Neither a float nor an array may hold it.
        return f"{where or 'it'} has {value.bit_length()} bits, more than 63"
    if isinstance(value, types) and (not isinstance(value, bool) or {bool, object} & set(types)):
        return ""
    return _wrong(where, value, " or ".join(each.__name__ for each in types))


def _wrong(where: str, value: Any, wanted: str) -> str:
    return f"{where or 'it'} is {repr(value)[:40]}, not {wanted}"


def _inside(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
