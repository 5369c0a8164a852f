"""Means of a family, each drawn towards the others by as much as their spread looks like luck.

The best of several measured means was lucky. What frees it of that luck is to know how much the
true means of its family differ: if hardly, the best is worth about what the family is; if by much
more than the noise, it is worth what was measured. So the members of a family are taken to be
scattered about a mean of their own (best linear unbiased prediction, Robinson 1991; a posterior
needs no further correction for the pick, Dawid 1994): normally, with one part of the scatter for
each factor that members share and one of each member's own, and with even odds one member stands
apart by itself. A normal scatter alone draws a single one that does too far towards the rest.

What a factor's label does is the same in every family: what an allocation gains those that replay
it gains their rivals too, and it cancels between them.

How large the parts are few members can tell, so that is drawn too: from its likelihood times a
half-Cauchy prior (Gelman 2006), on a grid. A draw of the means becomes one given the family where
0 = B mean + scatter counts as observed, B being contrasts within families (Papandreou and Yuille
2010, Gaussian sampling by local perturbations).

Shape legend: R resamples, M members of all families, Q contrasts, P parts, G grid points, X ratios
of the member that stands apart, H = 1 + M X suppositions who does (first: nobody).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import helmert

# Deviation of a part over that of the noise of a contrast. Few members tell no more than factors
# of two; far above the noise, where next to nothing is shrunk, factors of eight do.
_RATIOS = (0.0, *(2.0**power for power in range(-2, 4)), 64.0, 512.0)
# Of the half-Cauchy prior of each ratio, and of that of a member that stands apart; chosen on
# simulated sweeps (docs/efficiency.md says on which).
_PRIOR_SCALE = 2.0
_APART_SCALE = 8.0
_ROUNDING = 1e-9
_SEED = 0
_AT_ONCE = 512  # points of the grid, to bound memory


@dataclass(frozen=True)
class Family:
    """Means that one is picked from: their places [m], and for each factor its labels [m].

    The factors are the same in all families, in one order.
    """

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
    """What the scatter of the members may be.

    `contrasts` [Q, M] within families; `labels` [P, M] number what shares each part; `unit`: the
    variance that a ratio of 1 stands for.
    """

    contrasts: np.ndarray
    labels: np.ndarray
    unit: float

    def covariances(self) -> np.ndarray:
        """Of the contrasts by each part [P, Q, Q], for ratios of 1."""
        shared = self.labels[:, :, None] == self.labels[:, None, :]
        found: np.ndarray = self.unit * self.contrasts @ shared @ self.contrasts.T
        return found


@dataclass(frozen=True)
class _Drawn:
    """Ratios [R, P] of the parts, who stands apart [R], and by what ratio [R] (0: nobody)."""

    ratios: np.ndarray
    member: np.ndarray
    apart: np.ndarray


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
    scatter = _Scatter(contrasts, _labels(families, contrasts), float(np.diag(spread).mean()))
    rng = np.random.default_rng(_SEED)
    found = _posterior(centre, spread, scatter, rng, len(drawn))
    supposed = (drawn - _scattered(found, scatter, rng)) @ contrasts.T
    both = np.stack([supposed, np.broadcast_to(centre, supposed.shape)], axis=2)
    pulls = np.linalg.solve(_settled(spread + _covariance(found, scatter)), both)
    pulls = np.einsum("rqi,qm->irm", pulls, contrasts @ noise)
    return Shrunk(drawn - pulls[0], -pulls[1].mean(axis=0))


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


def _labels(families: Sequence[Family], contrasts: np.ndarray) -> np.ndarray:
    """Numbers [P, M] of the labels: each member's own, and of every factor that says more."""
    count = contrasts.shape[1]
    found = [np.arange(count)]
    parts = [contrasts @ contrasts.T]
    for factor in zip(*(family.factors for family in families), strict=True):
        names = [label for labels in factor for label in labels]
        numbers = np.unique(names, return_inverse=True)[1]
        part = contrasts @ (numbers[:, None] == numbers) @ contrasts.T
        if part.any() and not any(np.allclose(part, other) for other in parts):
            found.append(numbers)
            parts.append(part)
    return np.array(found)


def _posterior(
    centre: np.ndarray,
    spread: np.ndarray,
    scatter: _Scatter,
    rng: np.random.Generator,
    resamples: int,
) -> _Drawn:
    """Draws of the scatter's size given the contrasts [Q] and their noise [Q, Q]."""
    mass = _prior(_PRIOR_SCALE)
    place = np.array(list(itertools.product(range(len(_RATIOS)), repeat=len(scatter.labels))))
    ratios = np.array(_RATIOS)[place]
    log = np.concatenate(list(_likelihoods(centre, spread, scatter, ratios)))
    log += np.log(mass[place]).sum(axis=1, keepdims=True)
    beyond, members = np.array(_RATIOS[1:]), scatter.labels.shape[1]
    weight = _prior(_APART_SCALE)[1:]
    # Even odds that nobody stands apart: all suppositions who does weigh as much as that one.
    log[:, 1:] += np.log(np.tile(weight / weight.sum() / members, members))
    odds = np.exp(log - log.max()).ravel()
    chosen = rng.choice(len(odds), size=resamples, p=odds / odds.sum())
    point, supposed = np.divmod(chosen, log.shape[1])
    member, size = np.divmod(np.maximum(supposed - 1, 0), len(beyond))
    return _Drawn(ratios[point], member, np.where(supposed > 0, beyond[size], 0.0))


def _likelihoods(
    centre: np.ndarray, spread: np.ndarray, scatter: _Scatter, ratios: np.ndarray
) -> Iterator[np.ndarray]:
    """Logarithm of the likelihood [G, H] at ratios [G, P], in portions.

    One member more apart is a covariance of rank one more, so its determinant and its inverse are
    those without it and a term (Sherman and Morrison 1950).
    """
    parts = scatter.covariances()
    sides = np.column_stack([centre, scatter.contrasts])
    extra = scatter.unit * np.array(_RATIOS[1:]) ** 2
    for start in range(0, len(ratios), _AT_ONCE):
        squares = ratios[start : start + _AT_ONCE] ** 2
        triangle = np.linalg.cholesky(_settled(spread + np.tensordot(squares, parts, axes=1)))
        solved = np.linalg.solve(triangle, np.broadcast_to(sides, (len(triangle), *sides.shape)))
        pulled, each = solved[..., 0], solved[..., 1:]
        nobody = -np.log(np.einsum("gii->gi", triangle)).sum(axis=1)
        nobody -= 0.5 * (pulled**2).sum(axis=1)
        larger = 1 + extra * (each**2).sum(axis=1)[..., None]
        towards = np.einsum("gq,gqm->gm", pulled, each)[..., None] ** 2
        more = 0.5 * (extra * towards / larger - np.log(larger))
        yield nobody[:, None] + np.pad(more.reshape(len(more), -1), ((0, 0), (1, 0)))


def _prior(scale: float) -> np.ndarray:
    """Half-Cauchy mass of the cell of each ratio, up to a constant factor."""
    ratios = np.array(_RATIOS)
    edges = np.array([0.0, *np.sqrt(ratios[1:-1] * ratios[2:]), np.inf])
    edges = np.insert(edges, 1, ratios[1] / np.sqrt(2))
    mass: np.ndarray = np.diff(np.arctan(edges / scale))
    return mass


def _covariance(found: _Drawn, scatter: _Scatter) -> np.ndarray:
    """Covariance [R, Q, Q] of the contrasts' scatter in every draw."""
    one = scatter.contrasts.T[found.member] * (np.sqrt(scatter.unit) * found.apart)[:, None]
    shared: np.ndarray = np.tensordot(found.ratios**2, scatter.covariances(), axes=1)
    return shared + one[:, :, None] * one[:, None, :]


def _scattered(found: _Drawn, scatter: _Scatter, rng: np.random.Generator) -> np.ndarray:
    """A scatter of the members [R, M] of the size of every draw."""
    rows = np.arange(len(found.apart))
    result = np.zeros((len(rows), scatter.labels.shape[1]))
    for ratio, numbers in zip(found.ratios.T, scatter.labels, strict=True):
        result += ratio[:, None] * rng.standard_normal((len(rows), numbers.max() + 1))[:, numbers]
    result[rows, found.member] += found.apart * rng.standard_normal(len(rows))
    return np.sqrt(scatter.unit) * result


def _settled(covariance: np.ndarray) -> np.ndarray:
    """Covariances [..., Q, Q] that can be inverted even where members are the same runs."""
    count = covariance.shape[-1]
    size = np.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / count
    settled: np.ndarray = covariance + _ROUNDING * size * np.eye(count)
    return settled
