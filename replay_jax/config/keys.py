"""Every key that a config has: its type, its value, and what it means, from the dataclasses.

What a key means is the line that its dataclass's docstring has for it, "name: meaning", one or
several names before the colon, continued on lines that are indented further.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from replay_jax.config.defaults import paper_config
from replay_jax.config.experiment import ExperimentConfig
from replay_jax.errors import UserError
from replay_jax.strict import nearest

# A dictionary whose keys are the user's own stands in keys with this in its place.
ANY = "NAME"
_TYPES = {
    str: "text",
    bool: "True or False",
    int: "whole number",
    float: "number",
    type(None): "None",
}


@dataclasses.dataclass(frozen=True)
class Key:
    """One key: dotted name, type in words, meaning; `example` is its value in a configuration."""

    name: str
    kind: str
    meaning: str
    example: Any


def keys_of(plain: Mapping[str, Any] | None = None) -> tuple[Key, ...]:
    """All keys with their values in a configuration, by default those that configs start from.

    Sources and tasks have names of the user's own: of these the first is shown, as NAME.
    """
    values = paper_config().to_dict() if plain is None else plain
    return tuple(_keys(ExperimentConfig, values, ""))


def chosen(keys: tuple[Key, ...], wanted: str) -> tuple[Key, ...]:
    """The keys of a name or below it.

    Raises:
        UserError: there are none; names the nearest.
    """
    found = tuple(key for key in keys if f"{key.name}.".startswith(f"{wanted}."))
    if not found:
        rooms = {".".join(key.name.split(".")[:depth]) for key in keys for depth in (1, 2, 3)}
        raise UserError(f"no key '{wanted}': {nearest(wanted, sorted(rooms))}")
    return found


def _keys(kind: Any, values: Any, prefix: str) -> Iterator[Key]:
    meanings, types = meanings_of(kind), typing.get_type_hints(kind)
    for each in dataclasses.fields(kind):
        name, inside = f"{prefix}{each.name}", _dataclass_in(types[each.name])
        value = values[each.name] if isinstance(values, Mapping) and each.name in values else None
        if inside is None:
            yield Key(name, _type_words(types[each.name]), meanings[each.name], value)
        elif isinstance(types[each.name], type):
            yield from _keys(inside, value, f"{name}.")
        else:
            yield Key(name, _type_words(types[each.name]), meanings[each.name], None)
            named = _is_named(types[each.name])
            first = (
                next(iter(value.values()), None)
                if isinstance(value, Mapping) and named
                else (value[0] if isinstance(value, list | tuple) and value else value)
            )
            yield from _keys(inside, first, f"{name}.{ANY}." if named else f"{name}.")


def meanings_of(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field, in one line."""
    names = {each.name for each in dataclasses.fields(kind)}
    found: dict[str, list[str]] = {}
    open_: list[str] = []
    for line in (inspect.getdoc(kind) or "").splitlines():
        match = re.match(r" *([a-z_0-9]+(?:, [a-z_0-9]+)*): (.+)", line)
        said = match[1].split(", ") if match else []
        if match and set(said) <= names:
            open_ = said
            found.update({name: [match[2]] for name in said})
        elif line.startswith("  ") and line.strip():
            for name in open_:
                found[name].append(line.strip())
        else:
            open_ = []
    return {name: " ".join(lines) for name, lines in found.items()}


def _dataclass_in(kind: Any) -> Any:
    """The dataclass that a type is, or holds; None if there is none."""
    if dataclasses.is_dataclass(kind):
        return kind
    return next(filter(None, map(_dataclass_in, typing.get_args(kind))), None)


def _is_named(kind: Any) -> bool:
    """Whether a type is a tuple of (name, value) pairs, which a config writes as a dictionary."""
    inside = typing.get_args(kind)
    return bool(inside) and typing.get_origin(inside[0]) is tuple


def _type_words(kind: Any) -> str:
    inside = _dataclass_in(kind)
    if inside is not None:
        several = typing.get_origin(kind) is tuple
        return "dictionary by name" if _is_named(kind) else "list" if several else "keys, or None"
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return " or ".join(map(_type_words, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        return "dictionary" if _is_named(kind) else f"list of {_type_words(item)}"
    if typing.get_origin(kind) is not None:
        return "dictionary"
    return _TYPES[kind]


def reference() -> str:
    """All keys as a page of Markdown, a table for each room (docs/reference.md)."""
    lines = [
        "# Every key of a config",
        "",
        "Written by `python tools/reference.py` from the dataclasses. `replay-jax config` prints",
        "the same, `replay-jax config CONFIG` with the values of a config, and `replay-jax config",
        "CONFIG KEY` one key or all below it. The value here is that of `paper_config()`, from",
        "which configs start; NAME is a name of your own. Any key can be changed on the command",
        "line with `--config.key=value`.",
    ]
    room = ""
    for key in keys_of():
        first = key.name.split(".")[0]
        if "." not in key.name:
            first = "a run"
        if first != room:
            lines += [
                "",
                f"## {first}",
                "",
                "| key | type | value | meaning |",
                "|---|---|---|---|",
            ]
            room = first
        value = "" if key.example is None else f"`{key.example!r}`"
        cells = (f"`{key.name}`", key.kind, value, key.meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
