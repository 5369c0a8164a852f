"""Noise variances of strata with few degrees of freedom, each shrunk towards that of all.

Smyth 2004, Linear models and empirical Bayes methods: strata variances are taken to be scattered
about a common one like a scaled inverse chi-square; how widely, the strata themselves tell. That is
no picture of a few runs that went wrong, or of one kind of run that is much noisier than all
others: what stands out so far that luck does not explain it keeps its own variance, and the rest
are told by the rest.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, fdtrc, polygamma

# Strata are told apart where the spread of their log variances exceeds that of chance by this many
# of its standard errors.
EVIDENCE = 1.0
# Odds that any of equally noisy variances is said to stand out, and the most that can.
ODDS = 0.05
_MOST = 1 / 3
# Odds at which a stratum is doubtful. It has its own variance, as its intervals would be too narrow
# if it were pooled by mistake; the common one keeps it, which the pick would make too small. Not so
# a single setting, of which too little is known. Chosen on the lines of a noisy baseline.
_DOUBT = 0.3
# Least degrees of freedom that its variance is taken to be known by: with those of one or two runs
# resamples would have no mean, or no variance.
_LEAST = 3.0


@dataclass(frozen=True)
class Strata:
    """`relative` [strata]: variances over the common one; `freedom` [strata]: how well known.

    Infinite freedom: the strata are not told apart, all are 1. `beyond` [strata]: those whose
    variance has no part in the common one.
    """

    relative: np.ndarray
    freedom: np.ndarray
    beyond: np.ndarray

    @property
    def pooled(self) -> bool:
        """Whether all strata have one variance."""
        return bool(np.isinf(self.freedom).all())


def moderate(
    squares: np.ndarray, freedom: np.ndarray, apart: np.ndarray, single: np.ndarray
) -> Strata:
    """Shrink variances given as sums of squares [strata] with degrees of freedom [strata].

    Those that are `apart` [strata], or stand out among the others, stay as they are and have no
    part in what is common; those that may stand out, and are not `single` [strata] settings, stay
    as they are. Where nothing is known of a stratum it has the common variance.
    """
    apart = apart & (freedom > 0)
    alone, doubtful = apart.copy(), apart.copy()
    alone[~apart] = stand_out(squares[~apart], freedom[~apart], odds=ODDS)
    doubtful[~apart] = stand_out(squares[~apart], freedom[~apart], odds=_DOUBT)
    variances, known = np.ones(len(squares)), np.full(len(squares), np.inf)
    variances[~alone], known[~alone] = _shrunk(squares[~alone], freedom[~alone])
    own = alone | (doubtful & ~single)
    variances[own] = squares[own] / freedom[own]
    known[own] = np.maximum(freedom[own], _LEAST)
    if np.isinf(known).all():
        return Strata(np.ones(len(squares)), known, alone)
    usual = freedom if own[freedom > 0].all() else np.where(own, 0.0, freedom)
    return Strata(variances / float((variances * usual).sum() / usual.sum()), known, alone)


def _shrunk(squares: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(variances, their degrees of freedom), infinite and one variance where none is told apart."""
    count = len(squares)
    pooled = np.full(count, squares.sum() / max(freedom.sum(), 1e-300)), np.full(count, np.inf)
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
    return (prior * common + squares) / (prior + freedom), prior + freedom


def stand_out(squares: np.ndarray, freedom: np.ndarray, *, odds: float) -> np.ndarray:
    """Which variances [n], as sums of squares with degrees of freedom, are too large for the rest.

    The largest are taken away one after the other, and so many of them stand out as the last one
    that is too large for what remains says: two that went wrong do not hide each other (Rosner
    1983, a generalised many-outlier procedure; here with F, Bonferroni over those left).
    """
    left = np.flatnonzero(freedom > 0)
    order = left[np.argsort(-squares[left] / freedom[left])]
    count = 0
    for taken in range(int(_MOST * len(left))):
        largest, rest = order[taken : taken + 1], order[taken + 1 :]
        own, common = (squares[largest], freedom[largest]), (squares[rest], freedom[rest])
        if stands_out(*own, *common, odds=odds, of=len(rest) + 1):
            count = taken + 1
    found = np.zeros(len(squares), dtype=bool)
    found[order[:count]] = True
    return found


def stands_out(
    squares: np.ndarray,
    freedom: np.ndarray,
    squares_of_rest: np.ndarray,
    freedom_of_rest: np.ndarray,
    *,
    odds: float,
    of: int = 1,
) -> bool:
    """Whether some variances together are too large for the rest (F), being picked `of` so many."""
    if not (squares.sum() > 0 and squares_of_rest.sum() > 0):
        return False  # where all others have no noise at all, there is none to compare with
    common = squares_of_rest.sum() / freedom_of_rest.sum()
    beyond = squares.sum() / freedom.sum() / common
    return bool(fdtrc(freedom.sum(), freedom_of_rest.sum(), beyond) * of < odds)


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
