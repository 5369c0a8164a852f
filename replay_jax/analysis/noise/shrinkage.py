"""Means of a family, each drawn towards the others by as much as their spread looks like luck.

The best of several measured means was lucky. What frees it of that luck is to know how much the
true means of its family differ: if hardly, the best is worth about what the family is; if by much
more than the noise, it is worth what was measured. So the members of a family are taken to be
scattered normally about a mean of their own (best linear unbiased prediction, Robinson 1991; a
posterior needs no further correction for the pick, Dawid 1994), with one part of the scatter for
each factor that members share and one of each member's own.

How large the parts are few members can tell, so that is drawn too: from its likelihood times a
half-Cauchy prior (Gelman 2006), on a grid. A draw of the means becomes one given the family where
0 = B mean + scatter counts as observed, B being contrasts within families (Papandreou and Yuille
2010, Gaussian sampling by local perturbations).

Shape legend: R resamples, M members of all families, Q contrasts, P parts, G grid points.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import helmert

# Deviation of a part over that of the noise of a contrast. Few members tell no more than factors
# of two; far above the noise, where next to nothing is shrunk, factors of eight do.
_RATIOS = (0.0, *(2.0**power for power in range(-2, 4)), 64.0, 512.0)
# Of the half-Cauchy prior of each ratio; chosen on the tuning part of the simulated sweeps.
_PRIOR_SCALE = 2.0
_ROUNDING = 1e-9
_SEED = 0
_AT_ONCE = 256  # points of the grid, to bound memory


@dataclass(frozen=True)
class Family:
    """Means that one is picked from: their places [m], and for each factor its labels [m]."""

    members: tuple[int, ...]
    factors: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Shrunk:
    """Resampled means [R, M] in the order of the families, and how far each moved on average [M].

    In the unit of the means.
    """

    drawn: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True)
class _Scatter:
    """Of one family: its contrasts, and for ratios of 1 their covariance [P, q, q] by each part."""

    contrasts: slice
    parts: np.ndarray


def shrink(means: np.ndarray, drawn: np.ndarray, families: Sequence[Family]) -> Shrunk:
    """Draw means [C] and resamples of them [R, C] towards those of their family.

    The same means and resamples give the same. A family of one stays as it is, but for the noise
    that it shares with others.
    """
    members = [place for family in families for place in family.members]
    means, drawn = means[members], drawn[:, members]
    contrasts = _contrasts(families)
    if not len(contrasts) or not np.ptp(drawn, axis=0).any():
        return Shrunk(drawn, np.zeros(drawn.shape[1]))
    noise = np.cov(drawn, rowvar=False)
    spread, centre = contrasts @ noise @ contrasts.T, contrasts @ means
    scatters = list(_scatters(families, contrasts, spread))
    rng = np.random.default_rng(_SEED)
    ratios = np.concatenate(
        [_drawn_ratios(centre, spread, own, rng, len(drawn)) for own in scatters], axis=1
    )
    points, place = np.unique(ratios, axis=0, return_inverse=True)
    normal = rng.standard_normal((len(drawn), len(centre)))
    result, moved = drawn.copy(), np.zeros(drawn.shape[1])
    for index, point in enumerate(points):
        rows = place == index
        scatter = _covariance(scatters, point, len(centre))
        gain = np.linalg.solve(_settled(spread + scatter), contrasts @ noise)
        values, vectors = np.linalg.eigh(scatter)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        result[rows] -= (drawn[rows] @ contrasts.T - normal[rows] @ root.T) @ gain
        moved -= rows.mean() * (centre @ gain)
    return Shrunk(result, moved)


def _contrasts(families: Sequence[Family]) -> np.ndarray:
    """Orthonormal contrasts [Q, M] within families."""
    sizes = [len(family.members) for family in families]
    found = np.zeros((sum(sizes) - len(sizes), sum(sizes)))
    for index, size in enumerate(sizes):
        start = sum(sizes[:index])
        if size > 1:
            row = start - index
            found[row : row + size - 1, start : start + size] = helmert(size)
    return found


def _scatters(
    families: Sequence[Family], contrasts: np.ndarray, spread: np.ndarray
) -> Iterator[_Scatter]:
    """The scatter of every family of several, in units of the noise of its contrasts."""
    member = contrast = 0
    for family in families:
        size = len(family.members)
        used = slice(contrast, contrast + size - 1)
        if size > 1:
            within = contrasts[used, member : member + size]
            unit = float(np.diag(spread)[used].mean())
            parts = [unit * within @ shared @ within.T for shared in _shared(family)]
            yield _Scatter(used, np.array(parts))
        member, contrast = member + size, contrast + size - 1


def _shared(family: Family) -> list[np.ndarray]:
    """Which members [m, m] share a part: of each its own, and those of one label of a factor."""
    size = len(family.members)
    found = [np.eye(size)]
    for labels in family.factors:
        if 1 < len(set(labels)) < size:
            each = np.array(labels)
            found.append((each[:, None] == each).astype(float))
    return found


def _drawn_ratios(
    centre: np.ndarray,
    spread: np.ndarray,
    own: _Scatter,
    rng: np.random.Generator,
    resamples: int,
) -> np.ndarray:
    """Ratios [R, P] of the parts of one family from their posterior, given the contrasts [Q]."""
    place = np.array(list(itertools.product(range(len(_RATIOS)), repeat=len(own.parts))))
    ratios = np.array(_RATIOS)[place]
    log = np.log(_prior()[place]).sum(axis=1)
    found, noise = centre[own.contrasts], spread[own.contrasts, own.contrasts]
    flat = own.parts.reshape(len(own.parts), -1)
    for start in range(0, len(ratios), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        scatter = (ratios[some] ** 2 @ flat).reshape(-1, *noise.shape)
        triangle = np.linalg.cholesky(_settled(noise + scatter))
        pulled = np.linalg.solve(triangle, found[:, None])[..., 0]
        log[some] -= np.log(np.einsum("gii->gi", triangle)).sum(axis=1)
        log[some] -= 0.5 * (pulled**2).sum(axis=1)
    weights = np.exp(log - log.max())
    return ratios[rng.choice(len(weights), size=resamples, p=weights / weights.sum())]


def _prior() -> np.ndarray:
    """Half-Cauchy mass of the cell of each ratio, up to a constant factor."""
    ratios = np.array(_RATIOS)
    edges = np.array([0.0, *np.sqrt(ratios[1:-1] * ratios[2:]), np.inf])
    edges = np.insert(edges, 1, ratios[1] / np.sqrt(2))
    mass: np.ndarray = np.diff(np.arctan(edges / _PRIOR_SCALE))
    return mass


def _covariance(scatters: Sequence[_Scatter], ratios: np.ndarray, contrasts: int) -> np.ndarray:
    """Covariance [Q, Q] of the contrasts' scatter at the ratios [P] of all families."""
    found = np.zeros((contrasts, contrasts))
    used = 0
    for own in scatters:
        squares = ratios[used : used + len(own.parts)] ** 2
        found[own.contrasts, own.contrasts] = np.tensordot(squares, own.parts, axes=1)
        used += len(own.parts)
    return found


def _settled(covariance: np.ndarray) -> np.ndarray:
    """Covariances [..., Q, Q] that can be inverted even where members are the same runs."""
    count = covariance.shape[-1]
    size = np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / count
    settled: np.ndarray = covariance + _ROUNDING * size * np.eye(count)
    return settled
