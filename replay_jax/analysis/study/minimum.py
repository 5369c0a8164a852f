"""The replay fraction at the minimum of a parabola in -ln(1 - rho), where there is one to tell.

Shape legend: R resamples, N replay fractions.
"""

from collections.abc import Sequence

import numpy as np

from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.study.study import CellResult, ReplayFit

MIN_FRACTIONS = 4
_BEYOND = 0.2  # a predicted minimum may lie this share of the sampled range beyond it
_MISFIT_LEVEL = 0.1


def fit_replay(
    cells: Sequence[CellResult], drawn: np.ndarray, *, spread: bool, level: float
) -> tuple[ReplayFit, ...]:
    """Quadratics in -ln(1 - rho) for every row of at least four rho; drawn is [R, cells].

    Three points leave nothing to check a parabola by, so it is not fitted to them.
    """
    rows: dict[tuple[object, ...], list[int]] = {}
    for index, cell in enumerate(cells):
        key = cell.key
        if key.protocol != "uniform" and key.replay_fraction < 1:
            rows.setdefault((key.protocol, key.target_tokens, key.axes, key.allocation), []).append(
                index
            )
    fits = []
    for members in rows.values():
        members.sort(key=lambda index: cells[index].key.replay_fraction)
        fractions = np.array([cells[index].key.replay_fraction for index in members])
        if len(set(fractions)) < MIN_FRACTIONS or len(set(fractions)) < len(fractions):
            continue
        t = -np.log1p(-fractions)
        losses = np.array([cells[index].target_loss.value for index in members])
        coefficients = np.polyfit(t, losses, 2)
        minimum, note = _minimum(
            t, losses, coefficients, drawn[:, members] if spread else None, level=level
        )
        a, b, c = (float(value) for value in coefficients)
        fits.append(ReplayFit(tuple(members), (a, b, c), minimum, note))
    return tuple(fits)


def _minimum(
    t: np.ndarray,
    losses: np.ndarray,
    coefficients: np.ndarray,
    drawn: np.ndarray | None,
    *,
    level: float,
) -> tuple[Interval | None, str]:
    """Predicted best rho, or None and why; `drawn` [R, N] resamples of the losses [N]."""
    reach = _BEYOND * (t[-1] - t[0])
    low, high = max(0.0, t[0] - reach), t[-1] + reach
    a, b, _ = coefficients
    if a <= 0:
        return None, "the fitted curve has no minimum"
    best = -b / (2 * a)
    if not t[0] - reach <= best <= high:
        side = "above" if best > high else "below"
        return None, f"the fitted minimum lies far {side} the sampled replay fractions"
    value = float(-np.expm1(-max(best, 0.0)))
    if drawn is None:
        return Interval(value, None, None, note="seed noise unknown"), ""
    if _misses(t, losses, drawn):
        return None, "the losses are no parabola: they miss it by more than seeds explain"
    a, b, _ = np.polyfit(t, drawn.T, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = -b / (2 * a)
    falling = a * (high**2 - low**2) + b * (high - low) < 0
    vertex = np.where(a > 0, vertex, np.where(falling, np.inf, -np.inf))
    ends = np.array(interval(vertex, level=level))
    return _censored(value, ends, low=low, high=high, last=float(-np.expm1(-t[-1])))


def _censored(
    value: float, ends: np.ndarray, *, low: float, high: float, last: float
) -> tuple[Interval, str]:
    """Ends beyond what a parabola may be asked are no bounds; rho = 0 is one by itself."""
    first = float(-np.expm1(-max(ends[0], 0.0))) if ends[0] >= low or low == 0.0 else None
    top = float(-np.expm1(-ends[1])) if ends[1] <= high else None
    note = "" if top is not None else f"not bounded by replay fractions up to {last:g}"
    low_end = None if first is None else min(first, value)
    return Interval(value, low_end, None if top is None else max(top, value)), note


def _misses(t: np.ndarray, losses: np.ndarray, drawn: np.ndarray) -> bool:
    """Whether a parabola leaves more than the resamples' own spread does (at the 10 % level).

    The residuals of the losses, in the metric of the residuals of their resamples.
    """
    hat = np.vander(t, 3) @ np.linalg.pinv(np.vander(t, 3))
    rest = np.linalg.svd(np.eye(len(t)) - hat)[0][:, : len(t) - 3]
    own, spread = losses @ rest, (drawn - drawn.mean(axis=0)) @ rest
    inverse = np.linalg.pinv(np.atleast_2d(np.cov(spread.T)))
    found = float(own @ inverse @ own)
    typical = np.einsum("ri,ij,rj->r", spread, inverse, spread)
    return float((typical >= found).mean()) < _MISFIT_LEVEL and found > 0
