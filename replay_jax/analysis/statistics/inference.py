"""From observed and resampled mean losses to a curve and equivalents with intervals.

Used by `fit` (points.py) and by studies (study.py); both hand over the observed means and matching
resamples (noise.py), so a seed effect shared by reference and candidate cancels as it should.

Shape legend: R resamples, N reference points, M losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from replay_jax.analysis.noise.resampling import Noise, constant_noise
from replay_jax.analysis.statistics import laws
from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.statistics.efficiency import (
    LAW_NAMES,
    LawScore,
    ReferenceLaw,
    ReferencePoints,
    fit_law,
    fit_reference,
    offset_error,
    score_laws,
)
from replay_jax.analysis.statistics.misfit import fitting_laws, misfit


@dataclass(frozen=True)
class CurveFit:
    """A reference curve with everything said about it.

    `law` has one row (the data), `resampled` R rows. `among`: the laws that do not miss the points,
    from which they were chosen; empty if all do. `misfit`: where the law used misses them, the
    standard deviation in nats of the points about it beyond seed noise. A, B, C are None unless
    `well_posed`.
    """

    points: ReferencePoints
    law: ReferenceLaw
    resampled: ReferenceLaw
    name: str
    scores: tuple[LawScore, ...]
    misfit: float
    among: tuple[str, ...]
    well_posed: bool
    why: str
    coefficients: dict[str, Interval] | None
    log_linear: tuple[float, float] | None  # (intercept at x = 1, slope per e-fold) of that limit
    notes: tuple[str, ...]

    @property
    def name_shares(self) -> dict[str, float]:
        """Share of resamples that chose each law."""
        return self.resampled.shares


def residual_noise(points: ReferencePoints, losses: np.ndarray) -> Noise:
    """Noise of losses [K, S] guessed from the scatter of single-seed reference points about a law.

    It assumes that candidates scatter like reference points and that the law is right; the caller
    must say that seed noise is unknown.
    """
    chosen = LAW_NAMES[fit_reference(points, points.loss[None]).chosen[0]]
    for name in (chosen, "log_linear"):
        spare = len(points.x) - laws.LAW_PARAMETERS.get(name, len(points.x))
        if spare >= 1:
            break
    residuals = fit_law(name, points, points.loss[None]).loss(points.log_x)[0] - points.loss
    return constant_noise(losses, float((residuals**2).sum()) / spare, spare)


def fit_curve(
    points: ReferencePoints,
    resampled: np.ndarray,
    *,
    noise: Noise,
    variances: np.ndarray,
    level: float,
    rng: np.random.Generator,
    law: str | None = None,
) -> CurveFit:
    """Fit the reference curve to the observed points and to every resample [R, N] of them.

    `variances` [N] are those of the point means (nats squared), from `noise`. `law` fixes the law;
    None chooses by leave-one-out error among those that do not miss the points, anew in every
    resample; some resamples doubt the law and follow the points. Where all miss them, or a law is
    fixed that does, the excess is drawn for every point.
    """
    among: tuple[str, ...] = LAW_NAMES
    if noise.known:
        among = fitting_laws(points, variances, freedom=noise.freedom)
    observed = fit_reference(points, points.loss[None], law=law, among=among or LAW_NAMES)
    name = LAW_NAMES[observed.chosen[0]]
    missed, read_off = 0.0, np.zeros(len(resampled), bool)
    if noise.known:
        doubt = misfit(name, points, variances, freedom=noise.freedom)
        if name not in among:
            missed = doubt.excess
            resampled = resampled + missed * rng.standard_normal(resampled.shape)
        elif law is None and name != "interpolation":
            read_off = doubt.read_off(rng, resamples=len(resampled))
    # Where the data chose a law, a resample that prefers interpolation still has to answer outside.
    fitted = fit_reference(
        points,
        resampled,
        law=law,
        among=among or LAW_NAMES,
        silent_outside=name == "interpolation",
        read_off=read_off,
    ).with_shapes(rng)
    well_posed, why, coefficients = _coefficients(
        points, observed, name, resampled, float(variances.mean()) + missed**2, level
    )
    log_linear = None
    if name == "log_linear":
        line = laws.fit_log_linear(points.log_x, points.loss[None], points.weights)
        log_linear = (float(line.loss(np.zeros(1))[0, 0]), float(line.slope[0]))
    return CurveFit(
        points=points,
        law=observed,
        resampled=fitted,
        name=name,
        scores=score_laws(points),
        misfit=missed,
        among=among,
        well_posed=well_posed,
        why=why,
        coefficients=coefficients,
        log_linear=log_linear,
        notes=_point_notes(points, variances, noise.known) + _law_notes(among, name, missed),
    )


def _coefficients(
    points: ReferencePoints,
    observed: ReferenceLaw,
    name: str,
    resampled: np.ndarray,
    variance: float,
    level: float,
) -> tuple[bool, str, dict[str, Interval] | None]:
    """(well posed, why in words, A/B/C with intervals or None)."""
    if name == "log_linear":
        return (
            False,
            "degenerate: the best exponent B is not told from 0, where A and C grow without bound; "
            "the curve is its log-linear limit L = a - b ln x; ratios, exp(dL / b), stay stable",
            None,
        )
    if name != "power":
        return False, f"A, B, C belong to the power law; the points chose {name}", None
    curves = laws.fit_power(points.log_x, points.loss[None], points.weights)
    span = float(np.ptp(points.loss))
    error = offset_error(points, curves, variance)
    b = float(curves.exponent[0])
    if len(points.x) == laws.LAW_PARAMETERS["power"]:
        return False, "three parameters on three points leave nothing to check them by", None
    if b >= laws.MAX_EXPONENT * (1 - 1e-9) or not error < span:
        return (
            False,
            f"degenerate: the standard error of the offset C, {error:.3g} nat, is not below the "
            f"range of the measured losses, {span:.3g} nat (B = {b:.3g})",
            None,
        )
    fits = laws.fit_power(points.log_x, resampled, points.weights)
    limit = float((fits.exponent == 0).mean())
    drawn = fits.coefficients()
    values = curves.coefficients()
    coefficients = {}
    for key, value, samples in zip("ABC", values, drawn, strict=True):
        low, high = interval(samples, level=level)
        low, high = min(low, float(value[0])), max(high, float(value[0]))
        coefficients[key] = Interval(
            float(value[0]),
            low if np.isfinite(low) else None,
            high if np.isfinite(high) else None,
        )
    why = f"the offset C is known to {error:.3g} nat (standard error)"
    if limit > (1 - level) / 2:
        why += f", but {100 * limit:.0f} % of resamples end at the log-linear limit B = 0"
    return True, why, coefficients


def _point_notes(
    points: ReferencePoints, variances: np.ndarray, seeds_known: bool
) -> tuple[str, ...]:
    notes = []
    rises = np.diff(points.loss)
    for i in np.flatnonzero(rises > 0):
        spread = float(np.sqrt(variances[i] + variances[i + 1]))
        told = (
            ("within seed noise" if rises[i] < 2 * spread else "beyond seed noise")
            if seeds_known
            else "seed noise unknown"
        )
        notes.append(
            f"reference loss rises from {points.loss[i]:.4f} at x = {points.x[i]:g} to "
            f"{points.loss[i + 1]:.4f} at x = {points.x[i + 1]:g} ({told})"
        )
    return tuple(notes)


def _law_notes(among: Sequence[str], name: str, missed: float) -> tuple[str, ...]:
    if missed > 0:
        scatter = "every law" if not among else f"the law {name}"
        return (
            f"reference points scatter {missed:.3g} nat about {scatter} beyond seed noise: the "
            "intervals take that for chance, which it may not be; check the reference runs",
        )
    if set(among) == {"interpolation"}:
        return (
            "the reference points miss every law by more than their seeds explain: amounts are "
            "read off between the measured budgets, and refused outside them",
        )
    return ()
