"""Lists of runs from three combinators: every combination, one after another, side by side.

A run is a mapping from dotted keys to values ("overrides"); a sweep is a list of such mappings.

    sweep = chain(
        grid({"schedule.replay_fraction": [0.0, 0.5], "seed": [0, 1]}),
        grid(zipped({"schedule.target_epochs": [8, 16], "optimizer.weight_decay": [0.1, 0.2]}),
             {"seed": [0, 1]}),
    )
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.errors import UserError
from replay_jax.report.naming import named

Overrides = dict[str, Any]
Factor = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


def grid(*factors: Factor) -> list[Overrides]:
    """Every combination of the factors, the last one varying fastest.

    Args:
        factors: mappings from a dotted key to its values, or lists of overrides (the result of
            another combinator), which count as one axis each.

    Raises:
        UserError: an axis without values, a key in two factors, or a duplicate run.
    """
    axes: list[list[Overrides]] = []
    for factor in factors:
        if isinstance(factor, Mapping):
            axes.extend(_axis(key, values) for key, values in factor.items())
        else:
            axes.append([dict(item) for item in factor])
    _refuse_empty(axes)
    return _distinct([_merge(parts) for parts in itertools.product(*axes)])


def chain(*sweeps: Sequence[Mapping[str, Any]]) -> list[Overrides]:
    """The runs of all sweeps, one sweep after another.

    Raises:
        UserError: a run that occurs twice.
    """
    return _distinct([dict(item) for sweep in sweeps for item in sweep])


def zipped(axes: Mapping[str, Sequence[Any]]) -> list[Overrides]:
    """One run per position of equally long axes, taken side by side.

    Raises:
        UserError: axes of different lengths, an axis without values, or a duplicate run.
    """
    columns = [_axis(key, values) for key, values in axes.items()]
    _refuse_empty(columns)
    lengths = {key: len(values) for key, values in axes.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"zipped axes must be equally long, not {lengths}")
    return _distinct([_merge(parts) for parts in zip(*columns, strict=True)])


def _axis(key: str, values: Sequence[Any]) -> list[Overrides]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"the axis '{key}' must be a list of values, not {values!r}")
    return [{key: value} for value in values]


def _refuse_empty(axes: Sequence[Sequence[Overrides]]) -> None:
    if not axes or not all(axes):
        raise UserError("a sweep needs at least one axis, and every axis at least one value")


def _merge(parts: Sequence[Overrides]) -> Overrides:
    merged: Overrides = {}
    for part in parts:
        twice = sorted(merged.keys() & part.keys())
        if twice:
            raise UserError(f"the key '{twice[0]}' is set by two factors of one grid: keep one")
        merged |= part
    return merged


def _distinct(runs: list[Overrides]) -> list[Overrides]:
    seen: dict[str, int] = {}
    for position, run in enumerate(runs):
        # default=str: values may be dataclasses; only equality of the text matters here, and the
        # planner compares resolved runs again.
        key = json.dumps(run, sort_keys=True, default=str)
        if key in seen:
            raise UserError(
                f"runs {seen[key]} and {position} of the sweep are both {_said(run)}: keep one"
            )
        seen[key] = position
    return runs


def _said(run: Overrides) -> str:
    (said,) = named([{"overrides": run}], {})
    return ", ".join(f"{key}={value}" for key, value in said["overrides"].items())
