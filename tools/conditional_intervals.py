"""The interval of a difference of two bests, given that they were picked for being best.

The hybrid of Andrews, Kitagawa and McCloskey 2024, Inference on winners: with normal means of known
covariance, that one cell is the least of its group and another the least of its own says no more
about their difference, given all that is independent of it, than that it lies between two bounds.
So it is a truncated normal, whose quantiles are inverted; that it lies within a simultaneous
interval of all differences keeps this from growing without bound near a tie. It holds its level
however much the cells differ.

Shape legend: R resamples, M cells of both groups.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import truncnorm

# Share of the level that the simultaneous interval may miss, as the authors take it.
_SIMULTANEOUS = 0.1


@dataclass(frozen=True)
class Conditional:
    """`low` and `high` of the interval and the median-unbiased `value`, nats."""

    low: float
    value: float
    high: float


def conditional_interval(
    means: np.ndarray, drawn: np.ndarray, own: int, *, level: float
) -> Conditional:
    """Least of the cells after the first `own` [M - own] less the least of the first `own`.

    `means` [M] of the cells, lower is better; `drawn` [R, M]: resamples, whose covariance is that
    of the means.
    """
    best, other = int(means[:own].argmin()), own + int(means[own:].argmin())
    direction = np.zeros(len(means))
    direction[[other, best]] = 1, -1
    covariance = np.cov(drawn, rowvar=False)
    variance = float(direction @ covariance @ direction)
    value, deviation = float(direction @ means), float(np.sqrt(variance))
    slope = covariance @ direction / variance
    low, high = _bounds(means - slope * value, slope, own, best, other)
    reach = deviation * _simultaneous(drawn, own, 1 - _SIMULTANEOUS * (1 - level))

    def beyond(true: float, share: float) -> float:
        ends = np.array([max(low, true - reach), min(high, true + reach)])
        standard = (ends - true) / deviation
        return float(truncnorm.cdf((value - true) / deviation, *standard)) - share

    def at(share: float) -> float:
        # At these ends all or nothing lies below the value, so the root is between them.
        return float(brentq(beyond, value - reach, value + reach, args=(share,), xtol=1e-6))

    rest = (1 - level) * (1 - _SIMULTANEOUS) / (1 - _SIMULTANEOUS * (1 - level))
    return Conditional(at(1 - rest / 2), at(0.5), at(rest / 2))


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
    """Standard errors within which all differences between the groups lie at once."""
    off = drawn - drawn.mean(axis=0)
    differences = off[:, own:, None] - off[:, None, :own]
    return float(np.quantile(np.abs(differences / differences.std(axis=0)).max(axis=(1, 2)), level))
