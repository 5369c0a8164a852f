"""Settings that are whole tables of values, said by a name: a dictionary is never printed.

A sweep may vary a model, a schedule or a list of stages as a whole. For tables and figures every
such value gets a short name; what is to be run again keeps the value itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.report.elements.words import count

# What says most about a table of values that stands alone.
_TELLING = ("name", "kind", "shape", "num_layers", "embed_dim", "peak", "decay_fraction")
# A value that differs from a known one in so few places is named after it.
_CHANGES = 2
# Known names: the dotted key of a setting to its named values.
Names = Mapping[str, Mapping[str, Mapping[str, Any]]]


def named(records: Sequence[Mapping[str, Any]], known: Names) -> list[dict[str, Any]]:
    """Records whose swept tables of values are replaced by names; equal values have one name.

    Args:
        records: result records; they are left as they are.
        known: names of values, such as `{"model": {"150m": {...}}}`.
    """
    words = _words_of_all(records, known)
    return [
        {**record, "overrides": _said(record["overrides"], words)} if words else dict(record)
        for record in records
    ]


def unnamed(overrides: Mapping[str, Any], records: Sequence[Mapping[str, Any]],
            known: Names) -> dict[str, Any]:  # fmt: skip
    """Overrides in which names that `named` gave stand for the values again."""
    words = _words_of_all(records, known)
    return {
        key: next((value for value, name in words.get(key, ()) if name == said), said)
        for key, said in overrides.items()
    }


def _words_of_all(
    records: Sequence[Mapping[str, Any]], known: Names
) -> dict[str, list[tuple[Any, str]]]:
    """For every key that has tables of values: the different values, each with its own name."""
    values: dict[str, list[Any]] = {}
    for record in records:
        for key, value in record["overrides"].items():
            if isinstance(value, dict | list | tuple) and value not in values.setdefault(key, []):
                values[key].append(value)
    found: dict[str, list[tuple[Any, str]]] = {}
    for key, different in values.items():
        taken: set[str] = set()
        for value in different:
            name = own = _name(value, different, known[key] if key in known else {})
            again = 2
            while name in taken:
                name, again = f"{own} ({again})", again + 1
            taken.add(name)
            found.setdefault(key, []).append((value, name))
    return found


def _said(overrides: Mapping[str, Any], words: Mapping[str, list[tuple[Any, str]]]) -> Any:
    return {
        key: next((name for other, name in words.get(key, ()) if other == value), value)
        for key, value in overrides.items()
    }


def _name(value: Any, different: Sequence[Any], known: Mapping[str, Mapping[str, Any]]) -> str:
    if not isinstance(value, Mapping):
        return _list_words(value)
    for name, preset in known.items():
        changed = [key for key in value if key not in preset or preset[key] != value[key]]
        if len(changed) <= _CHANGES and value.keys() == preset.keys():
            return ", ".join([name, *(f"{_words(key)} {_short(value[key])}" for key in changed)])
    tables = [other for other in different if isinstance(other, Mapping)]
    keys = [key for key in value if any(key not in t or t[key] != value[key] for t in tables)]
    for key in sorted(keys, key=lambda key: key not in _TELLING):
        if len({_short(table[key]) for table in tables if key in table}) == len(tables):
            keys = [key]  # it alone tells all of them apart
            break
    telling = keys or [key for key in _TELLING if key in value] or list(value)[:2]
    return ", ".join(f"{_words(key)} {_short(value[key])}" for key in telling[:4])


def _words(key: str) -> str:
    return key.replace("_", " ")


def _list_words(value: Sequence[Any]) -> str:
    names = [str(item["name"]) for item in value if isinstance(item, Mapping) and "name" in item]
    if names:
        return " → ".join(names)
    plain = [_short(item) for item in value]
    return ", ".join(plain) if len(plain) <= 4 else count(len(plain), "entry").replace("ys", "ies")


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "of its own"
    if isinstance(value, list | tuple):
        return count(len(value), "value")
    return f"{value:g}" if isinstance(value, float) else str(value)
