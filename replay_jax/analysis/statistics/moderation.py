"""Noise variances of strata with few degrees of freedom, each shrunk towards that of all.

Smyth 2004, Linear models and empirical Bayes methods: strata variances are taken to be scattered
about a common one like a scaled inverse chi-square; how widely, the strata themselves tell.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma

# Strata are told apart where the spread of their log variances exceeds that of chance by this many
# of its standard errors.
EVIDENCE = 1.0


@dataclass(frozen=True)
class Strata:
    """`relative` [strata]: variances over the common one; `freedom` [strata]: how well known.

    Infinite freedom: the strata are not told apart, all are 1.
    """

    relative: np.ndarray
    freedom: np.ndarray

    @property
    def pooled(self) -> bool:
        """Whether all strata have one variance."""
        return bool(np.isinf(self.freedom).all())


def moderate(squares: np.ndarray, freedom: np.ndarray) -> Strata:
    """Shrink variances given as sums of squares [strata] with degrees of freedom [strata]."""
    count = len(squares)
    pooled = Strata(np.ones(count), np.full(count, np.inf))
    used = (freedom > 0) & (squares > 0)
    if used.sum() < 3:
        return pooled
    half = freedom[used] / 2
    logs = np.log(squares[used] / freedom[used]) - digamma(half) + np.log(half)
    chance = float(polygamma(1, half).mean())
    spread = float(logs.var(ddof=1)) - chance
    if spread <= EVIDENCE * chance * np.sqrt(2 / (used.sum() - 1)):
        return pooled
    prior = 2 * _inverse_trigamma(spread)
    common = float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2)))
    variances = (prior * common + squares) / (prior + freedom)
    mean = float((variances * freedom).sum() / freedom.sum())
    return Strata(variances / mean, prior + freedom)


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-10 * x:
            break
    return x
