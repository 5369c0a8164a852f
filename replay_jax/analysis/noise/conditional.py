"""The interval of a difference of two bests, given that they were picked for being best.

The hybrid of Andrews, Kitagawa and McCloskey 2024, Inference on winners: with normal means of known
covariance, that one cell is the least of its group and another the least of its own says no more
about their difference, given all that is independent of it, than that it lies between two bounds.
So it is a truncated normal, whose quantiles are inverted; that it lies within a simultaneous
interval of all differences keeps this from growing without bound near a tie. Where both ends meet
at the far end of the simultaneous one (.5 % of simulated studies), that one is given instead. So it
holds its level however much the cells differ, without a word on how they are scattered; what
`shrinkage.py` gains by such words makes this one 1.2 to 1.7 times as wide (docs/efficiency.md).

Shape legend: R resamples, M cells of both groups, N those of the other one.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri

from replay_jax.analysis.noise.components import ROUNDING

# Share of the level that the simultaneous interval may miss, as the authors take it.
_SIMULTANEOUS = 0.1
_TIE = 1e-6  # of a standard error: keeps a pick that is tied from having no room at all
_COLLAPSED = 0.5  # of the width without a pick: a narrower interval says nothing


@dataclass(frozen=True)
class Conditional:
    """`low` and `high` of the interval and the median-unbiased `value`, in the means' unit."""

    low: float
    value: float
    high: float


def conditional_interval(
    means: np.ndarray, drawn: np.ndarray, own: int, *, level: float
) -> Conditional:
    """Least of the cells after the first `own` [N] less the least of the first `own`.

    `means` [M] of the cells, lower is better; `drawn` [R, M]: resamples, whose correlations and
    interval are those of the means.
    """
    best, other = int(means[:own].argmin()), own + int(means[own:].argmin())
    direction = np.zeros(len(means))
    direction[[other, best]] = 1, -1
    covariance = np.cov(drawn, rowvar=False)
    variance = float(direction @ covariance @ direction)
    value, unpicked = float(direction @ means), _half_width(drawn @ direction, level)
    if unpicked <= ROUNDING:
        return Conditional(value, value, value)
    # The deviation of Student's draws is too large for a normal: it is that of their interval.
    deviation = unpicked / float(ndtri((1 + level) / 2))
    slope = covariance @ direction / variance
    bounds = np.array(_bounds(means - slope * value, slope, own, best, other))
    # From here on differences are from the value, in standard errors.
    low, high = np.array([-_TIE, _TIE]) + (bounds - value) / deviation
    wide = float(np.sqrt(variance)) / deviation
    reach = wide * _simultaneous(drawn, own, 1 - _SIMULTANEOUS * (1 - level))

    def beyond(true: float, share: float) -> float:
        return (
            _share_below(max(low, true - reach) - true, -true, min(high, true + reach) - true)
            - share
        )

    def at(share: float) -> float:
        # At these ends all or nothing lies below the value, so the root is between them.
        return value + deviation * float(brentq(beyond, -reach, reach, args=(share,), xtol=1e-9))

    rest = (1 - level) * (1 - _SIMULTANEOUS) / (1 - _SIMULTANEOUS * (1 - level))
    found = Conditional(at(1 - rest / 2), at(0.5), at(rest / 2))
    if found.high - found.low < _COLLAPSED * 2 * unpicked:
        far = deviation * wide * _simultaneous(drawn, own, level)
        return Conditional(value - far, value, value + far)
    return found


def _half_width(drawn: np.ndarray, level: float) -> float:
    """Of the interval of draws [R], nothing being picked."""
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(high - low) / 2


def _share_below(low: float, value: float, high: float) -> float:
    """Of a standard normal between `low` and `high`, exact in either tail."""
    if low > 0:
        return 1 - _share_below(-high, -value, -low)
    below, at, above = log_ndtr([low, value, high])
    return float(np.exp(at - above) * np.expm1(below - at) / np.expm1(below - above))


def _bounds(
    fixed: np.ndarray, slope: np.ndarray, own: int, best: int, other: int
) -> tuple[float, float]:
    """Between which differences both picks stay what they are, all else `fixed` [M]."""
    low, high = -np.inf, np.inf
    for picked, members in ((best, range(own)), (other, range(own, len(fixed)))):
        for member in members:
            # fixed[picked] + slope[picked] t <= fixed[member] + slope[member] t
            gradient = slope[picked] - slope[member]
            if gradient > 0:
                high = min(high, (fixed[member] - fixed[picked]) / gradient)
            elif gradient < 0:
                low = max(low, (fixed[member] - fixed[picked]) / gradient)
    return low, high


def _simultaneous(drawn: np.ndarray, own: int, level: float) -> float:
    """Deviations of the draws within which all differences between the groups lie at once."""
    off = drawn - drawn.mean(axis=0)
    largest = np.zeros(len(off))
    for other in range(own, off.shape[1]):
        differences = off[:, other, None] - off[:, :own]
        spread = differences.std(axis=0)
        differing = spread > 0
        scaled = np.abs(differences[:, differing] / spread[differing])
        largest = np.maximum(largest, scaled.max(axis=1, initial=0.0))
    return float(np.quantile(largest, level))
