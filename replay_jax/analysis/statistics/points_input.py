"""The input of `fit`: reference points and candidate losses from a JSON object.

    {"reference": {"x": [...], "loss": [...]}, "candidates": {"name": loss, ...},
     "ratios": {"label": ["numerator", "denominator"], ...}, "level": 0.9, "law": "power"}

Every loss (nats per token) may be a list of losses by seed, the same seed at the same position
(null = no run). `level` (default 0.9) and `law` (default: chosen by leave-one-out error; "authors"
= their recipe) may be left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.statistics.efficiency import LAW_NAMES
from replay_jax.errors import UserError

DEFAULT_LEVEL = 0.9
_KEYS = ("reference", "candidates", "ratios", "level", "law")


@dataclass(frozen=True)
class Points:
    """A checked POINTS.json: x [N] increasing; losses [N, S] and [M, S] in nats, nan = no run."""

    x: np.ndarray
    reference: np.ndarray
    names: tuple[str, ...]
    candidates: np.ndarray
    ratios: tuple[tuple[str, str, str], ...]  # (label, numerator, denominator)
    level: float
    law: str | None


def parse_points(points: Mapping[str, Any]) -> Points:
    """Check a POINTS.json object and sort its reference by x.

    Raises:
      UserError: the first thing wrong, named with its value.
    """
    if not isinstance(points, Mapping):
        raise UserError(f"points must be a JSON object, got {type(points).__name__}")
    for key in points:
        if key not in _KEYS:
            raise UserError(f"unknown key {key!r} in points; known are {', '.join(_KEYS)}")
    reference = points.get("reference")
    if not isinstance(reference, Mapping) or set(reference) != {"x", "loss"}:
        raise UserError('points need "reference": {"x": [...], "loss": [...]}')
    x, rows = reference["x"], reference["loss"]
    if not isinstance(x, list) or not isinstance(rows, list) or len(x) != len(rows):
        raise UserError(
            f"reference x and loss must be lists of one length, got {_size(x)} and {_size(rows)}"
        )
    xs = np.array([_number(value, f"reference x[{i}]") for i, value in enumerate(x)])
    losses = [_seed_losses(row, f"reference loss at x = {xs[i]:g}") for i, row in enumerate(rows)]
    candidates = points.get("candidates", {})
    if not isinstance(candidates, Mapping):
        raise UserError('"candidates" must map names to losses')
    named = {
        str(name): _seed_losses(row, f"loss of candidate {name!r}")
        for name, row in candidates.items()
    }
    ratios = _ratios(points.get("ratios", {}), named)
    level = _number(points.get("level", DEFAULT_LEVEL), "level")
    if not 0 < level < 1:
        raise UserError(f"level must lie between 0 and 1, got {level:g}; 0.9 is usual")
    law = points.get("law")
    if law is not None and law not in (*LAW_NAMES, "authors"):
        raise UserError(f"unknown law {law!r}; known are {', '.join((*LAW_NAMES, 'authors'))}")
    order = np.argsort(xs)
    width = max([len(row) for row in (*losses, *named.values())], default=1)
    return Points(
        x=xs[order],
        reference=_matrix([losses[i] for i in order], width),
        names=tuple(named),
        candidates=_matrix(list(named.values()), width),
        ratios=ratios,
        level=level,
        law=law,
    )


def _ratios(ratios: Any, named: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    if not isinstance(ratios, Mapping):
        raise UserError('"ratios" must map labels to ["numerator", "denominator"]')
    result = []
    for label, pair in ratios.items():
        if not isinstance(pair, list) or len(pair) != 2:
            raise UserError(f'ratio {label!r} must be ["numerator", "denominator"], got {pair!r}')
        for name in pair:
            if not isinstance(name, str) or name not in named:
                known = ", ".join(named) or "none"
                raise UserError(f"ratio {label!r} names no candidate {name!r}; there are: {known}")
        result.append((str(label), pair[0], pair[1]))
    return tuple(result)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{what} must be a number, got {value!r}")
    try:
        number = float(value)  # JSON has integers of any size, such as FLOPs
    except OverflowError:
        raise UserError(f"{what} has {len(str(value))} digits, more than can be fitted") from None
    if not np.isfinite(number):
        raise UserError(f"{what} is {value}: a run that diverged cannot be fitted; leave it out")
    return number


def _seed_losses(row: Any, what: str) -> list[float]:
    if not isinstance(row, list):
        return [_number(row, what)]
    if not row:
        raise UserError(f"{what} is an empty list; give one loss per seed")
    return [
        float("nan") if value is None else _number(value, f"{what}, seed {i}")
        for i, value in enumerate(row)
    ]


def _matrix(rows: list[list[float]], width: int) -> np.ndarray:
    matrix = np.full((len(rows), width), np.nan)
    for i, row in enumerate(rows):
        matrix[i, : len(row)] = row
    return matrix


def _size(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, list) else repr(value)
