"""A second opinion on recommendations: the posterior of what they say.

Shape legend: D draws, K settings, C cells.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from replay_jax.analysis.advice.cautions import Caution
from replay_jax.analysis.advice.opinion import Opinion
from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.bayes.design import Design, design_of
from replay_jax.analysis.bayes.model import Posterior, sample_posterior
from replay_jax.analysis.bayes.worth import log_worth
from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.study.selection import row_of
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.progress import stage

SAMPLES, WARMUP = 400, 300  # of each chain


def with_opinions(
    study: TargetStudy,
    found: Sequence[Recommendation],
    *,
    samples: int = SAMPLES,
    warmup: int = WARMUP,
    seed: int = 0,
) -> tuple[Recommendation, ...]:
    """The recommendations of a target, each with the opinion of one fit of all its runs.

    Where the two contradict each other a caution says so. With one seed the fit tells a run's noise
    from what is a setting's own by its priors alone, so nothing is added.
    """
    if not study.seed_noise_known:
        return tuple(found)
    design = design_of(study)
    with stage(f"sampling a second opinion on {study.target}"):
        posterior = sample_posterior(design, samples=samples, warmup=warmup, seed=seed)
    return tuple(_with(each, _opinion(study, design, posterior, each)) for each in found)


def _with(found: Recommendation, opinion: Opinion) -> Recommendation:
    against = opinion.contradicts(found.verdict, found.gain, found.multiplier)
    told = () if not against else (
        Caution("second opinion", f"the two analyses disagree: {'; '.join(against)}"),
    )  # fmt: skip
    return replace(found, opinion=opinion, cautions=(*told, *found.cautions))


def _opinion(
    study: TargetStudy, design: Design, posterior: Posterior, found: Recommendation
) -> Opinion:
    """Of the cells that were recommended and compared, each at its best setting."""
    cells, level = study.cells, study.level
    tuned = np.stack([_best(posterior.means[:, rows]) for rows in design.rows], axis=1)
    gain = tuned[:, found.baseline] - tuned[:, found.best]
    place = row_of(cells[found.best].key)
    group = [i for i, cell in enumerate(cells) if row_of(cell.key) == place]
    fractions = np.array([cells[i].key.replay_fraction for i in group])
    winners = fractions[tuned[:, group].argmin(axis=1)]
    low, high = interval(gain, level=level)
    return Opinion(
        gain=Interval(float(np.median(gain)), low, high),
        helps=float((gain > 0).mean()),
        multiplier=_multiplier(design, posterior, tuned, found, level),
        best={float(rho): float((winners == rho).mean()) for rho in np.unique(fractions)},
        sampling=posterior.sampling,
        level=level,
    )


def _best(means: np.ndarray) -> np.ndarray:
    """Draws [D] of the setting with the least posterior mean, of settings [D, k].

    Not the least of every draw: that would be the lower the more settings were tried.
    """
    return means[:, means.mean(axis=0).argmin()]


def _multiplier(
    design: Design, posterior: Posterior, tuned: np.ndarray, found: Recommendation, level: float
) -> Interval | None:
    """The recommended schedule's worth over its rival's, through tuned losses [D, C] of all cells.

    None where the recommendation names none.
    """
    if found.multiplier is None or found.multiplier.value is None:
        return None
    of_cell = np.array([design.log_tokens[rows[0]] for rows in design.rows])
    reference = sorted(design.reference, key=lambda cell: float(of_cell[cell]))
    pair = tuned[:, [found.best, found.baseline]]
    worth = log_worth(posterior, of_cell[reference], tuned[:, reference], pair)
    with np.errstate(invalid="ignore", over="ignore"):
        ratio = worth[:, 0] - worth[:, 1]
        value, low, high = np.exp([np.nanmedian(ratio), *interval(ratio, level=level)])
    return Interval(
        float(value) if np.isfinite(value) else None,
        float(low) if np.isfinite(low) else None,
        float(high) if np.isfinite(high) else None,
    )
