"""Noise between seeds, and resamples of every mean loss that carry it honestly with 2 to 5 seeds.

Resampling two or three seeds with replacement knows far too little (two values resampled keep half
their variance, and a cell can come out with no spread at all), so its 90 % intervals cover about 55
to 80 % (measured in docs/efficiency.md). The resamples here are drawn instead from a fitted noise
model, with the uncertainty of that model:

1. seeds: loss[cell, seed] = mean[cell] + shared[seed] + noise[cell, seed]. What all runs of a seed
   share (initialisation, generic stream) cancels in differences, so it is estimated apart. The
   noise variance is pooled over all cells, or, where cells clearly differ, each cell's own variance
   is shrunk towards the pool (Smyth 2004, "moderated" variances). Each resample first draws the
   variance itself (scaled inverse chi-square), which gives intervals Student's tails.
2. points: where the reference points scatter about the law more than their seeds explain, the
   excess is drawn again for each point.
3. law: every resample chooses and fits its law anew (efficiency.fit_reference), and picks the best
   tuned setting anew (study.py).

Shape legend: K cells (one experimental setting each), S seeds, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma
from scipy.stats import f as f_distribution

from replay_jax.errors import UserError

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A value with its interval; None = not a number (see `note`), or no bound on that side.

    `extrapolated`: the value rests on the law outside the measured reference range.
    """

    value: float | None
    low: float | None
    high: float | None
    extrapolated: bool = False
    note: str = ""

    def to_json(self) -> dict[str, object]:
        """Plain JSON object; unbounded ends and undefined values are null."""
        result: dict[str, object] = {"value": self.value, "low": self.low, "high": self.high}
        result["extrapolated"] = self.extrapolated
        if self.note:
            result["note"] = self.note
        return result


@dataclass(frozen=True)
class Noise:
    """Variances (nats squared) of one run's loss, and how well they are known.

    `cell` [K] is the part not shared between the runs of a seed, with `freedom` degrees of freedom
    ([1] when pooled, [K] when cells were found to differ); `shared` is the part all runs of a seed
    share. `known` is False with a single seed everywhere: then `cell` is nan.
    """

    cell: np.ndarray
    freedom: np.ndarray
    pooled: bool
    shared: float
    shared_freedom: float
    known: bool


def cell_means(losses: np.ndarray) -> np.ndarray:
    """Mean over the seeds present [K] of losses [K, S] in nats, nan marking a missing run."""
    return np.nanmean(losses, axis=1)


def estimate_noise(losses: np.ndarray) -> Noise:
    """Split losses [K, S] (nan = missing run, one column per seed) into shared and own variance.

    Raises:
      UserError: a cell without any run.
    """
    present = np.isfinite(losses)
    counts = present.sum(axis=1)
    if (counts == 0).any():
        raise UserError(f"cell {int(np.flatnonzero(counts == 0)[0])} has no finite loss")
    residuals, seed_effects, freedom = _additive_fit(losses, present)
    if freedom < 1:
        unknown = np.full(len(losses), np.nan)
        return Noise(unknown, np.zeros(1), True, 0.0, 0.0, known=False)
    squares = np.where(present, residuals, 0.0) ** 2
    own_freedom = (counts - 1) * freedom / max((counts - 1).sum(), 1)
    pooled = float(squares.sum() / freedom)
    cell, prior_freedom = _moderate(squares.sum(axis=1), own_freedom, pooled)
    shared, shared_freedom = 0.0, 0.0
    if len(seed_effects) > 1 and len(losses) > 1:
        shared_freedom = len(seed_effects) - 1.0
        per_seed = present.sum(axis=0)
        shared = max(0.0, float(seed_effects.var(ddof=1) - pooled * np.mean(1 / per_seed)))
    if np.isinf(prior_freedom):
        return Noise(cell, np.array([freedom]), True, shared, shared_freedom, known=True)
    return Noise(cell, prior_freedom + own_freedom, False, shared, shared_freedom, known=True)


def constant_noise(variance: float, freedom: float, cells: int) -> Noise:
    """The same known-to-`freedom` variance for every cell: used when seeds say nothing."""
    return Noise(np.full(cells, variance), np.array([freedom]), True, 0.0, 0.0, known=False)


def resample_means(
    losses: np.ndarray, noise: Noise, rng: np.random.Generator, *, resamples: int
) -> np.ndarray:
    """Resampled cell means [R, K] in nats around the observed means of losses [K, S]."""
    present = np.isfinite(losses)
    counts = present.sum(axis=1)
    chi = rng.chisquare(noise.freedom, size=(resamples, len(noise.freedom))) / noise.freedom
    own = rng.standard_normal((resamples, len(losses)))
    own *= np.sqrt(noise.cell / counts / chi)
    means = cell_means(losses) + own
    if noise.shared > 0:
        chi = rng.chisquare(noise.shared_freedom, size=(resamples, 1)) / noise.shared_freedom
        seeds = rng.standard_normal((resamples, losses.shape[1])) * np.sqrt(noise.shared / chi)
        means += seeds @ (present / counts[:, None]).T
    return means


def interval(values: np.ndarray, *, level: float) -> tuple[float, float]:
    """Central interval of resampled `values` [R]; undefined ones (nan) count against both ends.

    Ends may be infinite. Order statistics, no interpolation, so infinities stay where they are.
    """
    tail = (1 - level) / 2
    low = np.sort(np.where(np.isnan(values), -np.inf, values))
    high = np.sort(np.where(np.isnan(values), np.inf, values))
    rank = int(np.floor(tail * len(values) + 1e-9))
    return float(low[rank]), float(high[len(values) - 1 - rank])


def lack_of_fit(
    residuals: np.ndarray, variances: np.ndarray, *, parameters: int, freedom: float
) -> float:
    """Variance (nats squared) of reference points about the law beyond what their seeds explain.

    `residuals` [N] of the point means; `variances` [N] of those means from seeds, known to
    `freedom` degrees of freedom. 0 unless an F test sees the excess at the 10 % level: taking every
    positive excess made 90 % intervals cover 93.5 % (14 scenarios x 200 simulated studies).
    """
    spare = len(residuals) - parameters
    if spare < 1:
        return 0.0
    found, expected = float((residuals**2).sum()) / spare, float(variances.mean())
    if found <= expected * float(f_distribution.ppf(0.9, spare, freedom)):
        return 0.0
    return found - expected


def _additive_fit(losses: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Residuals [K, S], seed effects [used S] and degrees of freedom of cell + seed effects."""
    counts = present.sum(axis=1)
    useful = counts > 1  # a cell with one run tells nothing about noise
    columns = np.flatnonzero(present[useful].any(axis=0))
    if not useful.any():
        return np.zeros_like(losses), np.zeros(0), 0.0
    cell_index, column_index = np.nonzero(present[useful][:, columns])
    values = losses[useful][:, columns][cell_index, column_index]
    shared = useful.sum() > 1
    width = int(useful.sum()) + (len(columns) if shared else 0)
    design = np.zeros((len(values), width))
    rows = np.arange(len(values))
    design[rows, cell_index] = 1
    if shared:
        design[rows, int(useful.sum()) + column_index] = 1
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    residuals = np.zeros_like(losses)
    flat = values - design @ solution
    residuals[np.flatnonzero(useful)[cell_index], columns[column_index]] = flat
    effects = solution[int(useful.sum()) :]
    return residuals, effects - (effects.mean() if shared else 0.0), float(len(values) - rank)


def _moderate(
    squares: np.ndarray, own_freedom: np.ndarray, pooled: float
) -> tuple[np.ndarray, float]:
    """Variances [K] shrunk to the pooled one, and the prior's degrees of freedom (inf = pooled)."""
    flat = np.full(len(squares), pooled)
    used = (own_freedom > 0) & (squares > 0)
    if used.sum() < 3 or pooled <= 0:
        return flat, float("inf")
    half = own_freedom[used] / 2
    logs = np.log(squares[used] / own_freedom[used]) - digamma(half) + np.log(half)
    chance = float(polygamma(1, half).mean())
    spread = float(logs.var(ddof=1)) - chance
    if spread <= 3 * chance * np.sqrt(2 / (used.sum() - 1)):  # three standard errors of a variance
        return flat, float("inf")
    prior = 2 * _inverse_trigamma(spread)
    return (prior * pooled + squares) / (prior + own_freedom), prior


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
