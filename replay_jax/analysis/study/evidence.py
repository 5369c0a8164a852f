"""What every cell is judged by: noise, resamples, the best tuned settings, the reference law.

Shape legend: K settings, S seeds, R resamples, C cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay_jax.analysis.noise.components import Layout
from replay_jax.analysis.noise.documents import DocumentLuck
from replay_jax.analysis.noise.resampling import Noise, estimate_noise, resample_means
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.statistics.equivalents import Equivalents, amount, equivalents, ratio
from replay_jax.analysis.statistics.inference import (
    CurveFit,
    fit_curve,
    residual_noise,
)
from replay_jax.analysis.study.groups import Cell, Setting, TargetGroup
from replay_jax.analysis.study.held_out import luck_of
from replay_jax.analysis.study.layout import (
    distinct_settings,
    layout_of,
    reference_cells,
    reference_points,
)

# Standard deviation of the multiple of its resampled excess that a winner owes to luck; chosen so
# that intervals keep their level in simulated sweeps (see `_without_luck`).
_LUCK_DOUBT = 1.5


@dataclass(frozen=True)
class Losses:
    """One domain's losses in nats: by seed [K, S], means [K], resampled means [R, K].

    `noise` None: nothing is known about the spread, every resample equals the means.
    """

    by_seed: np.ndarray
    means: np.ndarray
    noise: Noise | None
    drawn: np.ndarray
    documents: int | None


@dataclass(frozen=True)
class Evidence:
    """What every cell is judged by.

    `rows` are the settings (of K) of each cell, in its order; cells may share them
    (`layout.distinct_settings`). `best` [C] and `winner` [R, C] are those that are best in the data
    and in each resample. `target_drawn` [R, C] are the winners' losses freed of their `luck` [C],
    the nats by which a best is expected to look too good; `generic_drawn` [R, C] are those of the
    best in the data, for nothing is picked by them.
    """

    cells: tuple[Cell, ...]
    rows: tuple[np.ndarray, ...]
    best: np.ndarray
    winner: np.ndarray
    target: Losses
    generic: Losses
    luck: np.ndarray
    target_drawn: np.ndarray
    generic_drawn: np.ndarray
    curve: CurveFit | None
    curve_problem: str
    found: Equivalents | None
    level: float


def gather(
    group: TargetGroup, *, level: float, rng: np.random.Generator, resamples: int
) -> Evidence:
    """Estimate noise, resample, tune in each resample, and fit the reference law."""
    cells = group.cells
    settings, rows = distinct_settings(cells)
    by_seed = np.array([setting.target for setting in settings])
    layout = layout_of(cells, rows)
    seed_noise = estimate_noise(by_seed, layout)
    means = seed_noise.means
    best = np.array([own[means[own].argmin()] for own in rows])
    known = seed_noise.known
    reference, problem = reference_cells(cells)
    points = None
    if not problem:
        points, problem = reference_points(
            [cells[i] for i in reference], seed_noise, best[reference]
        )
    noise: Noise | None = seed_noise
    if not known:
        noise = None if points is None else residual_noise(points, by_seed)
    target = _losses(by_seed, means, noise, rng, resamples, luck_of(settings, "target"))
    generic = _generic(settings, layout, rng, resamples)
    winner = np.stack([own[target.drawn[:, own].argmin(axis=1)] for own in rows], axis=1)
    drawn = np.take_along_axis(target.drawn, winner, axis=1)
    luck = (target.drawn[:, best] - drawn).mean(axis=0)
    drawn = _without_luck(drawn, luck, rng)
    curve, found = None, None
    if points is not None and noise is not None:
        curve = fit_curve(
            points,
            drawn[:, reference],
            noise=noise,
            variances=noise.mean[best[reference]],
            level=level,
            rng=rng,
        )
        found = equivalents(curve, means[best], drawn)
    return Evidence(
        cells=cells,
        rows=rows,
        best=best,
        winner=winner,
        target=target,
        generic=generic,
        luck=luck,
        target_drawn=drawn,
        generic_drawn=generic.drawn[:, best],
        curve=curve,
        curve_problem=problem,
        found=found,
        level=level,
    )


def worth(
    evidence: Evidence, index: int, baseline: int | None, axes: Sequence[str]
) -> tuple[Interval | None, Interval | None, str]:
    """(equivalent tokens, multiplier, why there is none) of a cell against its baseline.

    What lies elsewhere on one of `axes` than the reference is not read off its curve.
    """
    curve, found, level = evidence.curve, evidence.found, evidence.level
    if curve is None or found is None:
        return None, None, evidence.curve_problem
    # What the reference's runs share goes without saying, so a cell that names it has another.
    other = [f"{name} {value}" for name, value in evidence.cells[index].key.axes if name in axes]
    if other:
        name = " and ".join(other)
        return None, None, f"the reference is not of {name}: analyse the runs of {name} alone"
    tokens = amount(curve, found, index, level=level)
    if baseline is None or baseline == index:
        return tokens, None, ""
    multiplier = ratio(curve, found, index, baseline, level=level)
    return tokens, multiplier, multiplier.note


def _without_luck(drawn: np.ndarray, luck: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Resampled best losses [R, C], centred on the observed best and its expected luck [C].

    The best of several noisy means is lower than the best true mean. A resample is luckier still
    than the setting that is best in the data, by about as much as the data were, so about twice
    that is added back; how much exactly is drawn too, for it is not known. Without this, gains of a
    schedule tuned over a flat grid against a baseline tuned over a steep one (or the other way) had
    90 % intervals that covered 76 %; with it 87 to 93 % (250 simulated sweeps each, 2 and 3 seeds).
    """
    return drawn + (2 + _LUCK_DOUBT * rng.standard_normal(drawn.shape)) * luck


def _generic(
    settings: Sequence[Setting], layout: Layout, rng: np.random.Generator, resamples: int
) -> Losses:
    """Losses of what was measured; means and resamples of settings that have none are nan."""
    by_seed = np.array([setting.generic for setting in settings])
    measured = np.isfinite(by_seed).any(axis=1)
    if not measured.any():
        nothing = np.full(len(settings), np.nan)
        return _losses(by_seed, nothing, None, rng, resamples, None)
    noise = estimate_noise(by_seed[measured], _part_of(layout, measured))
    with_any = [setting for setting, has in zip(settings, measured, strict=True) if has]
    found = _losses(
        by_seed[measured],
        noise.means,
        noise if noise.known else None,
        rng,
        resamples,
        luck_of(with_any, "generic"),
    )
    if measured.all():
        return found
    means, drawn = np.full(len(settings), np.nan), np.full((resamples, len(settings)), np.nan)
    means[measured], drawn[:, measured] = found.means, found.drawn
    return replace(found, by_seed=by_seed, means=means, drawn=drawn)


def _part_of(layout: Layout, kept: np.ndarray) -> Layout:
    """What the settings `kept` [K] of a layout share."""
    return Layout(
        effects=tuple((name, labels[kept]) for name, labels in layout.effects),
        strata=layout.strata[kept],
    )


def _losses(
    by_seed: np.ndarray,
    means: np.ndarray,
    noise: Noise | None,
    rng: np.random.Generator,
    resamples: int,
    luck: DocumentLuck | None,
) -> Losses:
    if noise is None:
        drawn = np.broadcast_to(means, (resamples, len(means)))
    else:
        drawn = resample_means(noise, rng, resamples=resamples)
        if luck is not None:
            drawn += luck.drawn(rng, resamples=resamples)
    return Losses(
        by_seed=by_seed,
        means=means,
        noise=noise,
        drawn=drawn,
        documents=None if luck is None else luck.documents,
    )
