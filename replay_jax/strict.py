"""Plain nested values to frozen dataclasses, by their annotations, with nothing guessed.

Every field must be given, no key may be unknown, and a value must have the annotated type; the
error names the key, the value and the nearest valid name. An int is accepted where a float is
asked for, and nothing else is converted.
"""

import ast
import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from replay_jax.errors import UserError

T = TypeVar("T")

_SCALARS = (str, int, float, bool, type(None))
# Looked up once per class: a sweep of thousands of runs reads its annotations thousands of times.
_hints = functools.cache(typing.get_type_hints)


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass that its constructor takes."""
    return tuple(field.name for field in dataclasses.fields(kind) if field.init)


def nearest(name: str, valid: typing.Iterable[str]) -> str:
    """Words that point from a misspelt `name` to the closest valid one, or list them all."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"valid here: {', '.join(valid)}"


def literal(text: str) -> Any:
    """The Python literal that a text spells, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        # TypeError: {[]: 1}; the last two: brackets nested deeper than Python reads.
        return text


def from_plain(kind: type[T], value: Any, *, path: str) -> T:
    """Build `kind` (a dataclass or an annotated type) from plain nested values.

    Args:
        kind: the dataclass or type annotation to build.
        value: dicts, lists, tuples and scalars.
        path: dotted name of the value, for messages.

    Raises:
        UserError: a key is missing, unknown or of the wrong type.
    """
    if type(value) is kind and kind in _SCALARS:
        return value
    if dataclasses.is_dataclass(kind):
        return typing.cast(T, _dataclass(kind, value, path))
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return typing.cast(T, _optional(kind, value, path))
    if origin is tuple:
        return typing.cast(T, _tuple(kind, value, path))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise _wrong(kind, value, path)
        item = typing.get_args(kind)[1]
        return typing.cast(
            T, {k: from_plain(item, v, path=f"{path}.{k}") for k, v in value.items()}
        )
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return typing.cast(T, float(value))
    if type(value) is not kind:
        raise _wrong(kind, value, path)
    return value


def to_plain(value: Any) -> Any:
    """The inverse of `from_plain`: dicts, lists and scalars that JSON can hold."""
    if type(value) in _SCALARS:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((name, getattr(value, name)) for name in _names(type(value)))
        return {name: i if type(i) in _SCALARS else to_plain(i) for name, i in items}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        if value and all(_is_named(item) for item in value):
            return {item[0]: to_plain(item[1]) for item in value}
        return [to_plain(item) for item in value]
    return value


def _is_named(item: Any) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], str)
        and dataclasses.is_dataclass(item[1])
    )


def _wrong(kind: Any, value: Any, path: str) -> UserError:
    name = getattr(kind, "__name__", str(kind))
    return UserError(f"{path} must be {name}, not {value!r} ({type(value).__name__})")


def _dataclass(kind: Any, value: Any, path: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise _wrong(kind, value, path)
    hints = _hints(kind)
    names = _names(kind)
    for key in value:
        if key not in names:
            raise UserError(f"unknown key '{path}.{key}': {nearest(key, names)}")
    missing = [name for name in names if name not in value]
    if missing:
        raise UserError(f"missing key '{path}.{missing[0]}' ({hints[missing[0]]})")
    fields = {}
    for name in names:  # most are scalars of the right type: no call, no path
        item, hint = value[name], hints[name]
        right = type(item) is hint
        fields[name] = item if right else from_plain(hint, item, path=f"{path}.{name}")
    try:
        return kind(**fields)
    except UserError as error:
        if str(error).startswith(path):
            raise
        raise UserError(f"{path}: {error}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _optional(kind: Any, value: Any, path: str) -> Any:
    options = typing.get_args(kind)
    if value is None and type(None) in options:
        return None
    errors = []
    for option in options:
        if option is type(None):
            continue
        try:
            return from_plain(option, value, path=path)
        except UserError as error:
            errors.append(error)
    # Of a name or a mapping of weights, what is said of the mapping.
    raise errors[-1 if isinstance(value, Mapping) else 0]


def _tuple(kind: Any, value: Any, path: str) -> Any:
    items = typing.get_args(kind)
    repeated = len(items) == 2 and items[1] is Ellipsis
    if repeated and isinstance(value, Mapping) and typing.get_origin(items[0]) is tuple:
        # A mapping in a config file is an ordered tuple of (name, value) inside.
        inner = typing.get_args(items[0])[1]
        return tuple((k, from_plain(inner, v, path=f"{path}.{k}")) for k, v in value.items())
    if not isinstance(value, tuple | list):
        raise _wrong(kind, value, path)
    if repeated:
        return tuple(from_plain(items[0], v, path=f"{path}[{i}]") for i, v in enumerate(value))
    if len(items) != len(value):
        raise UserError(f"{path} must have {len(items)} items, not {len(value)}: {value!r}")
    return tuple(
        from_plain(item, v, path=f"{path}[{i}]")
        for i, (item, v) in enumerate(zip(items, value, strict=True))
    )
