"""Mean losses and resamples of them that carry the noise between seeds, with 2 to 5 seeds.

Resampling two or three seeds with replacement knows far too little (two values resampled keep half
their variance, and a cell can come out with no spread at all), so its 90 % intervals cover about 50
to 80 % (measured in docs/efficiency.md). The resamples here are drawn instead from the posterior of
a model of variance components (components.py), flat in the means:

1. ratios of the effects' deviations to the noise's, from their REML likelihood times a half-Cauchy
   prior (Gelman 2006, Prior distributions for variance parameters), on a grid;
2. the noise's variance (scaled inverse chi-square), common and of each stratum, which gives
   intervals Student's tails;
3. the effects of the seeds that were run, and the means given those: so what two settings share
   cancels in their difference, and what they do not share does not.

Shape legend: K settings, S seeds, R resamples, U effects of all seeds, G grid points.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from replay_jax.analysis.noise import components, uneven
from replay_jax.analysis.noise.components import Component, Layout, SeedModel, likelihood
from replay_jax.analysis.noise.moderation import Strata

# Ratios of an effect's deviation to the noise's; factors of two say all that few seeds can tell.
_RATIOS = (0.0, *(2.0**power for power in range(-3, 7)))
# Cancels in every comparison, so coarser; but far, as it may be all that differs between runs.
_SEED_RATIOS = (0.0, 0.25, 1.0, 4.0, 16.0, 64.0, 1024.0, 16384.0)
# Of the half-Cauchy prior of each ratio; chosen on the tuning part of the simulated sweeps.
_PRIOR_SCALE = 2.0


@dataclass(frozen=True)
class Posterior:
    """Ratios [G, effects] on a grid, their weights [G] and the noise's mean square at each [G]."""

    ratios: np.ndarray
    weights: np.ndarray
    mean_square: np.ndarray


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of losses [K, S]; `means` [K] are their estimates.

    `own` [K]: variance (nats squared) of one run beyond what its seed shares with others; `mean`
    [K]: that of a mean about what all budgets share. `freedom` belongs to `mean`. `known` is False
    with a single seed everywhere: then `own` and `mean` are nan, unless guessed from elsewhere.
    """

    means: np.ndarray
    own: np.ndarray
    mean: np.ndarray
    freedom: float
    known: bool
    components: tuple[Component, ...] = ()
    posterior: Posterior | None = None
    fitted: uneven.Fitted | None = None

    @property
    def deviation(self) -> float:
        """Standard deviation (nats) of one run's loss, everything included."""
        shared = sum(c.deviation**2 for c in self.components if c.name != "run")
        return float(np.sqrt(self.own.mean() + shared))


def estimate_noise(losses: np.ndarray, layout: Layout | None = None) -> Noise:
    """Means and noise of losses [K, S] in nats (nan = missing run, one column per seed).

    Means are generalised least squares: with runs missing a setting is compared with others over
    the seeds they share.

    Raises:
      UserError: a setting without any run.
    """
    layout = components.alone(len(losses)) if layout is None else layout
    fitted = uneven.fit(losses, layout)
    model = fitted.model
    if model.freedom < 1:
        unknown = np.full(len(losses), np.nan)
        return Noise(model.means, unknown, unknown, 0.0, known=False)
    posterior, mode = _posterior(model)
    ratios = components.reml(model, mode)
    scale = likelihood(model, ratios[None]).mean_square[0]
    centre = _effects(model, *components.system(model, ratios))
    return Noise(
        means=model.means - model.mean_design @ centre,
        own=scale * model.relative,
        mean=scale * _variance_of_means(model, ratios),
        freedom=_freedom(model, ratios),
        known=True,
        components=components.components(model, ratios),
        posterior=posterior,
        fitted=fitted,
    )


def constant_noise(losses: np.ndarray, variance: float, freedom: float) -> Noise:
    """One variance for every run, known to `freedom`: used when seeds say nothing."""
    counts = np.isfinite(losses).sum(axis=1)
    return Noise(
        means=np.nanmean(losses, axis=1),
        own=np.full(len(losses), variance),
        mean=variance / counts,
        freedom=freedom,
        known=False,
    )


def resample_means(noise: Noise, rng: np.random.Generator, *, resamples: int) -> np.ndarray:
    """Resampled means [R, K] in nats around `noise.means`."""
    own = rng.standard_normal((resamples, len(noise.means)))
    if noise.fitted is None:
        chi = rng.chisquare(noise.freedom, size=(resamples, 1)) / noise.freedom
        return noise.means + own * np.sqrt(noise.mean / chi)
    model, grid = noise.fitted.model, noise.posterior
    assert grid is not None
    points = rng.choice(len(grid.weights), size=resamples, p=grid.weights)
    chi = rng.chisquare(model.freedom, size=resamples) / model.freedom
    scale = np.sqrt(grid.mean_square[points] / chi)
    effects = np.empty((resamples, len(model.owner)))
    for point in np.unique(points):
        rows = np.flatnonzero(points == point)
        scales, triangle = components.system(model, grid.ratios[point])
        normal = rng.standard_normal((len(rows), len(model.owner)))
        drawn = scales * solve_triangular(triangle, normal.T, lower=True, trans="T").T
        effects[rows] = _effects(model, scales, triangle) + scale[rows, None] * drawn
    strata = _drawn_strata(noise.fitted.strata, rng, resamples)[:, noise.fitted.stratum]
    counts = np.isfinite(model.losses).sum(axis=1)
    own *= scale[:, None] * np.sqrt(model.relative * strata / counts)
    return model.means - effects @ model.mean_design.T + own


def _posterior(model: SeedModel) -> tuple[Posterior, np.ndarray]:
    """The posterior on the grid, and the grid's ratios [effects] of greatest likelihood."""
    ratios = components.grid(1, _RATIOS)
    if len(model.names) > 1:
        seeds, others = _SEED_RATIOS, components.grid(len(model.names) - 1, _RATIOS)
        ratios = np.column_stack([np.repeat(seeds, len(others)), np.tile(others, (len(seeds), 1))])
    found = likelihood(model, ratios)
    log = found.log + np.log(_prior(ratios)).sum(axis=1)
    weights = np.exp(log - log.max())
    best: np.ndarray = ratios[found.log.argmax()]
    return Posterior(ratios, weights / weights.sum(), found.mean_square), best


def _prior(ratios: np.ndarray) -> np.ndarray:
    """Half-Cauchy mass of each ratio's cell of the grid, up to a constant factor."""
    smallest = _RATIOS[1] / np.sqrt(2)
    density = np.where(ratios > 0, ratios, smallest) / (1 + (ratios / _PRIOR_SCALE) ** 2)
    return np.where(ratios > 0, density * np.log(2), smallest)


def _effects(model: SeedModel, scale: np.ndarray, triangle: np.ndarray) -> np.ndarray:
    """Mean [U] of the effects given the losses, for what `components.system` returns."""
    found: np.ndarray = scale * cho_solve((triangle, True), scale * model.pull)
    return found


def _variance_of_means(model: SeedModel, ratios: np.ndarray) -> np.ndarray:
    """Variance [K] of the means in units of the noise's, the shared seed left out."""
    beside = np.where(model.owner == model.names.index(components.SEED), 0.0, ratios[model.owner])
    counts = np.isfinite(model.losses).sum(axis=1)
    return model.relative / counts + ((model.mean_design * beside) ** 2).sum(axis=1)


def _freedom(model: SeedModel, ratios: np.ndarray) -> float:
    """Degrees of freedom of the means' variances (Satterthwaite 1946), shared seed left out."""
    seeds = model.losses.shape[1]
    parts, freedoms = [1.0], [float(model.freedom)]
    for index, name in enumerate(model.names):
        if name != components.SEED and ratios[index] > 0:
            groups = -(-int((model.owner == index).sum()) // seeds)  # not every seed may have each
            parts.append(float(ratios[index]) ** 2)
            freedoms.append(max((groups - 1.0) * (seeds - 1), 1.0))
    squares = sum(part**2 / free for part, free in zip(parts, freedoms, strict=True))
    return sum(parts) ** 2 / squares


def _drawn_strata(strata: Strata, rng: np.random.Generator, resamples: int) -> np.ndarray:
    """Multiples [R, strata] of the strata's variances, 1 where these are not told apart."""
    found = np.ones((resamples, len(strata.freedom)))
    told = np.isfinite(strata.freedom)
    freedom = strata.freedom[told]
    found[:, told] = freedom / rng.chisquare(freedom, size=(resamples, len(freedom)))
    return found
