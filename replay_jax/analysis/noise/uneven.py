"""The model of seeds (components.py) where noise differs between strata, and single settings err.

Shape legend: K settings, S seeds, U effects of all seeds.
"""

from dataclasses import dataclass

import numpy as np

from replay_jax.analysis.noise.components import ROUNDING, Layout, SeedModel, build, reml, system
from replay_jax.analysis.noise.moderation import (
    ODDS,
    Strata,
    moderate,
    stand_out,
    stands_out,
)

# Weights decide which residuals a stratum's noise leaves in others; three rounds settle it.
_ROUNDS = 3
_START = 0.5  # of the search for the effects' ratios
# Odds at which what is left of a stratum is taken to be noisy where one setting stands out already.
_SUSPICION = 0.2


@dataclass(frozen=True)
class Fitted:
    """The model and the noise of its strata.

    `stratum` [K]: of every setting. `apart` [K]: those that are strata by themselves, as their runs
    differ by more than the noise of all others explains.
    """

    model: SeedModel
    strata: Strata
    stratum: np.ndarray
    apart: np.ndarray

    @property
    def noisy(self) -> np.ndarray:
        """Settings [K] of strata that stand out as a whole."""
        found: np.ndarray = self.strata.beyond[self.stratum] & ~self.apart
        return found


def fit(losses: np.ndarray, layout: Layout) -> Fitted:
    """The model with the noise of each stratum moderated by that of all (moderation.py)."""
    labels = np.unique(layout.strata, return_inverse=True)[1]
    model = build(losses, layout, np.ones(len(losses)))
    for _ in range(_ROUNDS):
        ratios = reml(model, np.full(len(model.names), _START))
        apart, noisy = _apart(model, labels, ratios)
        own = np.where(apart, len(apart) + np.arange(len(apart)), labels)
        values, own = np.unique(own, return_inverse=True)
        alone = (values >= len(apart)) | np.isin(values, noisy)
        single = np.bincount(own) == 1
        strata = moderate(*_noise_of_strata(model, own, ratios), alone, single)
        model = build(losses, layout, strata.relative[own])
        if strata.pooled:
            break
    return Fitted(model, strata, own, apart)


def _apart(
    model: SeedModel, labels: np.ndarray, ratios: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which settings [K] stand out, and the labels of strata that do so as a whole.

    Of a noisy stratum only those stand out that do so among the others of their own.
    """
    squares, freedom = _noise_of_strata(model, np.arange(len(labels)), ratios)
    apart = stand_out(squares, freedom, odds=ODDS)
    noisy = []
    for label in np.unique(labels[apart]):
        (of_it,) = np.nonzero(labels == label)
        beyond = stand_out(squares[of_it], freedom[of_it], odds=ODDS)
        # Without its largest, so that one setting alone makes no stratum noisy.
        rest = of_it[~beyond] if beyond.any() else np.delete(of_it, squares[of_it].argmax())
        others = (labels != label) & ~apart
        if stands_out(
            squares[rest], freedom[rest], squares[others], freedom[others], odds=_SUSPICION
        ):
            noisy.append((label, of_it, beyond))
    for _, of_it, beyond in noisy:
        apart[of_it] = beyond
    return apart, np.array([label for label, _, _ in noisy], dtype=labels.dtype)


def _noise_of_strata(
    model: SeedModel, labels: np.ndarray, ratios: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(sum of squares, degrees of freedom) [strata] left by the effects at these ratios.

    `labels` [K] number the strata. With R the noise's covariance and P that of REML, the residuals
    are R P losses and have covariance R P R, so each has 1 - leverage degrees of freedom.
    """
    scale, triangle = system(model, ratios)
    root = scale[:, None] * np.linalg.inv(triangle).T
    effects = root @ (root.T @ model.pull)
    present = np.isfinite(model.losses)
    counts = present.sum(axis=1)
    found = np.zeros((2, int(labels.max()) + 1))
    for k, s in zip(*np.nonzero(present), strict=True):
        own = model.mean_design[k].copy() * -1
        block = model.seed == s
        own[block] -= own[block] * counts[k]
        left = model.losses[k, s] - np.nanmean(model.losses[k]) - own @ effects
        leverage = 1 / counts[k] + ((own @ root) ** 2).sum() / model.relative[k]
        if abs(left) > ROUNDING:
            found[0, labels[k]] += left**2
        found[1, labels[k]] += 1 - leverage
    return found[0], np.where(found[1] > 1e-6, found[1], 0.0)
