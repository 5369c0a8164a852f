"""Losses through a fitted reference curve: equivalent amounts of target data and their ratios.

Shape legend: R resamples, M losses.
"""

from dataclasses import dataclass

import numpy as np

from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.statistics.inference import CurveFit


@dataclass(frozen=True)
class Equivalents:
    """ln of the equivalent target amount of M losses: observed [M] and resampled [R, M]."""

    observed: np.ndarray
    resampled: np.ndarray


def equivalents(curve: CurveFit, losses: np.ndarray, resampled: np.ndarray) -> Equivalents:
    """Invert losses [M] and their resamples [R, M] through the curve and its resamples."""
    return Equivalents(
        observed=curve.law.log_equivalent(losses[None])[0],
        resampled=curve.resampled.log_equivalent(resampled),
    )


def amount(curve: CurveFit, found: Equivalents, column: int, *, level: float) -> Interval:
    """Equivalent target amount, in the unit of the reference x, with its interval."""
    log_x = float(found.observed[column])
    return _exponential(
        log_x,
        interval(found.resampled[:, column], level=level),
        extrapolated=_outside(curve, log_x),
        note=_place(curve, log_x),
    )


def ratio(
    curve: CurveFit, found: Equivalents, numerator: int, denominator: int, *, level: float
) -> Interval:
    """Data efficiency x(numerator) / x(denominator) with its interval."""
    top, bottom = float(found.observed[numerator]), float(found.observed[denominator])
    with np.errstate(invalid="ignore"):
        drawn = found.resampled[:, numerator] - found.resampled[:, denominator]
        value = float(np.subtract(top, bottom))
    notes = [
        f"{part}: {note}"
        for part, log_x in (("numerator", top), ("denominator", bottom))
        if (note := _place(curve, log_x))
    ]
    if numerator == denominator:
        return Interval(1.0, 1.0, 1.0, _outside(curve, top), "; ".join(notes))
    return _exponential(
        value,
        interval(drawn, level=level),
        extrapolated=_outside(curve, top) or _outside(curve, bottom),
        note="; ".join(notes),
    )


def _exponential(
    log_value: float, ends: tuple[float, float], *, extrapolated: bool, note: str
) -> Interval:
    low, high = ends
    if np.isfinite(log_value):
        low, high = min(low, log_value), max(high, log_value)
    with np.errstate(over="ignore"):
        value, low, high = (float(np.exp(end)) for end in (log_value, low, high))
    if np.isfinite(log_value) and not np.isfinite(value):
        more = f"more than any number can say (10^{log_value / np.log(10):.0f})"
        note = "; ".join(part for part in (note, more) if part)
    return Interval(
        value=value if np.isfinite(value) and np.isfinite(log_value) else None,
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
        extrapolated=extrapolated,
        note=note,
    )


def _outside(curve: CurveFit, log_x: float) -> bool:
    """Whether an equivalent lies outside the measured range, in amounts and in losses.

    A law need not pass through its first and last point; a loss between theirs is inside.
    """
    ends = curve.law.log_equivalent(curve.points.loss[[0, -1]][None])[0]
    first, last = curve.points.log_x[[0, -1]]
    edge = 1e-9
    low = min(first, ends[0]) if np.isfinite(ends[0]) else first
    high = max(last, ends[1]) if np.isfinite(ends[1]) else last
    return not bool(low - edge <= log_x <= high + edge)


def _place(curve: CurveFit, log_x: float) -> str:
    """In words, where an equivalent lies outside the measured range; empty inside it."""
    first, last = float(curve.points.x[0]), float(curve.points.x[-1])
    bounded = curve.name == "interpolation"
    if np.isnan(log_x):
        return "the reference curve is flat, so no amount can be told"
    if log_x == np.inf:
        floor = "every measured reference loss" if bounded else "the floor of the law"
        return f"loss below {floor}: no amount of reference data can be named"
    if log_x == -np.inf:
        ceiling = "every measured reference loss" if bounded else "the ceiling of the law"
        return f"loss above {ceiling}: no amount of reference data can be named"
    if not _outside(curve, log_x):
        return ""
    if log_x > curve.points.log_x[-1]:
        return (
            f"extrapolated above the largest reference amount {last:g}: better than every reference"
        )
    return f"extrapolated below the smallest reference amount {first:g}: worse than every reference"
