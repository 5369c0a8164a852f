"""The axes of a study, and the lines along them on which nothing else changes.

An axis is a budget, an allocation, a target, a protocol, or any swept or tuned key; keys that
change together (a model and its learning rate) are one axis.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from replay_jax.analysis.runs.records import text
from replay_jax.analysis.study.selection import short
from replay_jax.analysis.study.study import CellResult, TargetStudy

TOKENS, ALLOCATION = "target tokens", "allocation"
# What a group is called where runs of others name a value and it does not.
_USUAL = "as usual"
# First of the keys that change together, by which the axis is named.
_LEADING = ("target", "protocol", TOKENS, ALLOCATION, "model")
# Not an axis of its own: it follows from the budget in tokens.
_SAME = frozenset({"schedule.target_sequences", "schedule.stage2_allocation"})

# Where something stands: the value of every axis, in words.
Place = Mapping[str, str]


def place_of(study: TargetStudy, cell: CellResult) -> dict[str, str]:
    """Where a cell stands; of the axes that go without saying, what its runs were told."""
    key = cell.key
    protocol = key.protocol.replace("_", "-")
    place = {"target": study.target, "protocol": protocol, TOKENS: str(key.target_tokens)}
    axes = {name for other in study.cells for name, _ in other.key.axes} - _SAME
    told = {name: text(value) for name, value in cell.chosen.overrides.items() if name in axes}
    return place | told | {name: value for name, value in key.axes if name in axes}


def axes(places: Sequence[Place]) -> dict[str, frozenset[str]]:
    """Every axis with more than one value, by its leading key, with the keys that go with it."""
    keys = sorted({key for place in places for key in place}, key=_leading)
    found: dict[tuple[int, ...], list[str]] = {}
    for key in keys:
        values = [_value(place, key) for place in places]
        different = list(dict.fromkeys(values))
        if len(different) > 1:
            pattern = tuple(different.index(value) for value in values)
            found.setdefault(pattern, []).append(key)
    return {together[0]: frozenset(together) for together in found.values()}


def lines(
    key: str, together: frozenset[str], places: Sequence[Place]
) -> tuple[tuple[str, tuple[tuple[str, int], ...]], ...]:
    """The lines along an axis that have two values or more.

    Returns:
        For every choice of the other axes, in words, the values along the axis, each with the index
        of its place; of several places at one value the last. Values are in the order of their
        numbers where all are numbers, else in that of the places. What is as usual goes without
        saying.
    """
    further = [name for name, same in axes(places).items() if not same & together]
    found: dict[tuple[tuple[str, str], ...], dict[str, int]] = {}
    for index, place in enumerate(places):
        others = tuple((name, _value(place, name)) for name in further)
        found.setdefault(others, {})[_value(place, key)] = index
    drawn = {others: values for others, values in found.items() if len(values) > 1}
    nothing = _USUAL if len(drawn) > 1 else ""
    return tuple(
        (_label(others) or nothing, _in_order(values))
        for others, values in sorted(drawn.items(), key=lambda line: _order(line[0]))
    )


def as_number(value: str) -> float | None:
    """The number that a value of an axis is, None for words."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _leading(key: str) -> tuple[int, str]:
    return (_LEADING.index(key) if key in _LEADING else len(_LEADING), key)


def _value(place: Place, key: str) -> str:
    return place[key] if key in place else _USUAL


def _in_order(values: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    numbers = [as_number(value) for value in values]
    if all(number is not None for number in numbers):
        return tuple((value, values[value]) for value in sorted(values, key=float))
    return tuple(values.items())


def _order(others: Sequence[tuple[str, str]]) -> list[tuple[float, str]]:
    numbers = [(as_number(value), value) for _, value in others]
    return [(number, "") if number is not None else (0.0, value) for number, value in numbers]


def _label(others: Sequence[tuple[str, str]]) -> str:
    return ", ".join(_said(name, value) for name, value in others if value != _USUAL)


def _said(key: str, value: str) -> str:
    """A value with what it is of, where it does not say that itself."""
    if key == TOKENS:
        return f"{int(value):,} tokens"
    named = key in _LEADING and as_number(value) is None
    return value if named else f"{short(key)} {value}"
