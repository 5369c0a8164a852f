"""From observed and resampled mean losses to a reference curve and equivalents with intervals.

Used by `fit` (points.py) and by studies (study.py); both hand over the observed means and matching
resamples (noise.py), so a seed effect shared by reference and candidate cancels as it should.

Shape legend: R resamples, N reference points, M losses.
"""

from dataclasses import dataclass

import numpy as np

from replay_jax.analysis.statistics import bootstrap, laws
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
from replay_jax.analysis.statistics.noise import Noise, constant_noise


@dataclass(frozen=True)
class CurveFit:
    """A reference curve with everything said about it.

    `law` has one row (the data), `resampled` R rows. `misfit` is the standard deviation in nats of
    reference points about the law beyond seed noise. A, B, C are None unless `well_posed`.
    """

    points: ReferencePoints
    law: ReferenceLaw
    resampled: ReferenceLaw
    name: str
    scores: tuple[LawScore, ...]
    misfit: float
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
    None chooses by leave-one-out error, anew in every resample.
    """
    observed = fit_reference(points, points.loss[None], law=law)
    name = LAW_NAMES[observed.chosen[0]]
    residuals = observed.loss(points.log_x)[0] - points.loss
    misfit = 0.0
    if noise.known and name != "interpolation":
        misfit = bootstrap.lack_of_fit(
            residuals,
            variances,
            parameters=laws.LAW_PARAMETERS[name],
            freedom=noise.freedom,
        )
    misfit = misfit**0.5
    resampled = resampled + misfit * rng.standard_normal(resampled.shape)
    # Where the data chose a law, a resample that prefers interpolation still has to answer outside.
    fitted = fit_reference(points, resampled, law=law, silent_outside=name == "interpolation")
    well_posed, why, coefficients = _coefficients(
        points, observed, name, resampled, float(variances.mean()) + misfit**2, level
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
        misfit=misfit,
        well_posed=well_posed,
        why=why,
        coefficients=coefficients,
        log_linear=log_linear,
        notes=_point_notes(points, variances, noise.known, misfit),
    )


@dataclass(frozen=True)
class Equivalents:
    """ln of the equivalent target amount of M losses: observed [M] and resampled [R, M]."""

    observed: np.ndarray
    resampled: np.ndarray


def equivalents(curve: CurveFit, losses: np.ndarray, resampled: np.ndarray) -> Equivalents:
    """Invert losses [M] and their resamples [R, M] through the curve and its resamples."""
    return Equivalents(
        observed=curve.law.log_equivalent(losses[None])[0],
        resampled=curve.resampled.log_equivalent(resampled),
    )


def amount(curve: CurveFit, found: Equivalents, column: int, *, level: float) -> Interval:
    """Equivalent target amount, in the unit of the reference x, with its interval."""
    log_x = float(found.observed[column])
    return _exponential(
        log_x,
        interval(found.resampled[:, column], level=level),
        extrapolated=_outside(curve, log_x),
        note=_place(curve, log_x),
    )


def ratio(
    curve: CurveFit, found: Equivalents, numerator: int, denominator: int, *, level: float
) -> Interval:
    """Data efficiency x(numerator) / x(denominator) with its interval."""
    top, bottom = float(found.observed[numerator]), float(found.observed[denominator])
    with np.errstate(invalid="ignore"):
        drawn = found.resampled[:, numerator] - found.resampled[:, denominator]
        value = float(np.subtract(top, bottom))
    notes = [
        f"{part}: {note}"
        for part, log_x in (("numerator", top), ("denominator", bottom))
        if (note := _place(curve, log_x))
    ]
    if numerator == denominator:
        return Interval(1.0, 1.0, 1.0, _outside(curve, top), "; ".join(notes))
    return _exponential(
        value,
        interval(drawn, level=level),
        extrapolated=_outside(curve, top) or _outside(curve, bottom),
        note="; ".join(notes),
    )


def _exponential(
    log_value: float, ends: tuple[float, float], *, extrapolated: bool, note: str
) -> Interval:
    low, high = ends
    if np.isfinite(log_value):
        low, high = min(low, log_value), max(high, log_value)
    with np.errstate(over="ignore"):
        value, low, high = (float(np.exp(end)) for end in (log_value, low, high))
    return Interval(
        value=value if np.isfinite(log_value) else None,
        low=low if np.isfinite(low) else None,
        high=high if np.isfinite(high) else None,
        extrapolated=extrapolated,
        note=note,
    )


def _outside(curve: CurveFit, log_x: float) -> bool:
    """Whether an equivalent lies outside the measured range, in amounts and in losses.

    A law need not pass through its first and last point; a loss between theirs is inside.
    """
    ends = curve.law.log_equivalent(curve.points.loss[[0, -1]][None])[0]
    first, last = curve.points.log_x[[0, -1]]
    edge = 1e-9
    low = min(first, ends[0]) if np.isfinite(ends[0]) else first
    high = max(last, ends[1]) if np.isfinite(ends[1]) else last
    return not bool(low - edge <= log_x <= high + edge)


def _place(curve: CurveFit, log_x: float) -> str:
    """In words, where an equivalent lies outside the measured range; empty inside it."""
    first, last = float(curve.points.x[0]), float(curve.points.x[-1])
    bounded = curve.name == "interpolation"
    if np.isnan(log_x):
        return "the reference curve is flat, so no amount can be told"
    if log_x == np.inf:
        floor = "every measured reference loss" if bounded else "the floor of the law"
        return f"loss below {floor}: no amount of reference data can be named"
    if log_x == -np.inf:
        ceiling = "every measured reference loss" if bounded else "the ceiling of the law"
        return f"loss above {ceiling}: no amount of reference data can be named"
    if not _outside(curve, log_x):
        return ""
    if log_x > curve.points.log_x[-1]:
        return (
            f"extrapolated above the largest reference amount {last:g}: better than every reference"
        )
    return f"extrapolated below the smallest reference amount {first:g}: worse than every reference"


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
    points: ReferencePoints, variances: np.ndarray, seeds_known: bool, misfit: float
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
    if misfit > 0:
        notes.append(
            f"reference points scatter {misfit:.3g} nat about the law beyond seed noise; "
            "the intervals carry it"
        )
    return tuple(notes)
