"""`fit`: reference points and candidate losses in, data efficiency with intervals out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.noise.resampling import estimate_noise, resample_means
from replay_jax.analysis.statistics import bootstrap
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.statistics.efficiency import (
    LAW_NAMES,
    LAW_TITLES,
    ReferencePoints,
    fit_law,
    point_weights,
    require_falling,
)
from replay_jax.analysis.statistics.equivalents import amount, equivalents, ratio
from replay_jax.analysis.statistics.inference import (
    CurveFit,
    fit_curve,
    residual_noise,
)
from replay_jax.analysis.statistics.points_input import Points, parse_points
from replay_jax.errors import UserError

SEEDS_UNKNOWN = (
    "seed noise unknown: every loss is a single run, so the intervals assume that all runs scatter "
    "as the reference points do about the law; give lists of losses by seed"
)


@dataclass(frozen=True)
class Alternative:
    """The same equivalents and ratios through one law, without intervals; None = not a number."""

    name: str
    equivalent_x: dict[str, float | None]
    ratios: dict[str, float | None]
    leave_one_out: float | None
    aicc: float | None
    note: str = ""


@dataclass(frozen=True)
class FitResult:
    """Everything `fit` knows; `to_json` is the command's output."""

    curve: CurveFit
    law_name: str
    equivalent_x: dict[str, Interval]
    ratios: dict[str, Interval]
    alternatives: tuple[Alternative, ...]
    level: float
    seeds: int
    noise: float  # standard deviation of one run's loss, nats
    seed_noise_known: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON object as documented for `replay-jax fit --json`; None for what is refused.

        JSON has no infinities: what is larger than any number is None, with a note.
        """
        curve = self.curve
        coefficients = curve.coefficients
        law: dict[str, Any] = {
            key: None if coefficients is None else coefficients[key].value for key in "ABC"
        }
        law["well_posed"] = curve.well_posed
        law["name"] = self.law_name
        law["formula"] = LAW_TITLES[self.law_name]
        law["why"] = curve.why
        if coefficients is not None:
            law["intervals"] = {key: [v.low, v.high] for key, v in coefficients.items()}
        if curve.log_linear is not None:
            law["log_linear"] = dict(zip(("a", "b"), curve.log_linear, strict=True))
        law["chosen_in_resamples"] = curve.name_shares
        said: dict[str, Any] = {
            "law": law,
            "equivalent_x": {name: value.value for name, value in self.equivalent_x.items()},
            "equivalent_x_intervals": {k: v.to_json() for k, v in self.equivalent_x.items()},
            "ratios": {label: value.to_json() for label, value in self.ratios.items()},
            "laws": {
                other.name: {
                    "equivalent_x": other.equivalent_x,
                    "ratios": other.ratios,
                    "leave_one_out": other.leave_one_out,
                    "aicc": other.aicc,
                    "note": other.note,
                }
                for other in self.alternatives
            },
            "level": self.level,
            "seeds": self.seeds,
            "seed_noise": "known" if self.seed_noise_known else "unknown",
            "noise": self.noise,
            "notes": list(self.notes),
        }
        found: dict[str, Any] = _without_infinities(said)
        return found


def fit_points(
    points: Mapping[str, Any], *, resamples: int = bootstrap.RESAMPLES, seed: int = 0
) -> FitResult:
    """Fit the reference law, invert the candidates and form the ratios, with intervals.

    Raises:
      UserError: malformed input, fewer than three reference points, a loss that is not finite, a
        reference whose loss does not fall with x, or a ratio of an unknown candidate.
    """
    checked = parse_points(points)
    rng = np.random.default_rng(seed)
    count = len(checked.x)
    losses = np.concatenate([checked.reference, checked.candidates])
    noise = estimate_noise(losses)
    known = noise.known
    weights = point_weights(noise.mean[:count]) if known else np.ones(count)
    reference = ReferencePoints(checked.x, noise.means[:count], weights)
    require_falling(reference)
    if not known:
        noise = residual_noise(reference, losses)
    means = noise.means
    drawn = resample_means(noise, rng, resamples=resamples)
    curve = fit_curve(
        reference,
        drawn[:, :count],
        noise=noise,
        variances=noise.mean[:count],
        level=checked.level,
        rng=rng,
        law=None if checked.law == "authors" else checked.law,
    )
    found = equivalents(curve, means[count:], drawn[:, count:])
    names = checked.names
    alternatives = _alternatives(reference, checked, means[count:], curve)
    amounts = {
        name: amount(curve, found, column, level=checked.level) for column, name in enumerate(names)
    }
    ratios = {
        label: ratio(curve, found, names.index(top), names.index(bottom), level=checked.level)
        for label, top, bottom in checked.ratios
    }
    law_name = curve.name
    if checked.law == "authors":
        law_name = "authors"
        amounts, ratios = _by_authors(alternatives[-1], amounts, ratios)
    notes = (() if known else (SEEDS_UNKNOWN,)) + curve.notes + _candidate_notes(amounts)
    return FitResult(
        curve=curve,
        law_name=law_name,
        equivalent_x=amounts,
        ratios=ratios,
        alternatives=alternatives,
        level=checked.level,
        seeds=int(np.isfinite(losses).sum(axis=1).max()),
        noise=noise.deviation,
        seed_noise_known=known,
        notes=notes,
    )


def _alternatives(
    points: ReferencePoints, checked: Points, candidates: np.ndarray, curve: CurveFit
) -> tuple[Alternative, ...]:
    """Every law's answer, the authors' recipe last."""
    scores = {score.name: score for score in curve.scores}
    result = []
    for name in (*LAW_NAMES, "authors"):
        score = scores.get(name)
        note = ""
        try:
            fitted = fit_law(name, points, points.loss[None])
            log_x = fitted.log_equivalent(candidates[None])[0]
        except UserError as error:
            log_x, note = np.full(len(candidates), np.nan), str(error)
        by_name = dict(zip(checked.names, log_x, strict=True))
        result.append(
            Alternative(
                name=name,
                equivalent_x={key: _finite_exp(value) for key, value in by_name.items()},
                ratios={
                    label: _finite_exp(by_name[top] - by_name[bottom])
                    if np.isfinite([by_name[top], by_name[bottom]]).all()
                    else None
                    for label, top, bottom in checked.ratios
                },
                leave_one_out=None if score is None else score.leave_one_out,
                aicc=None if score is None else score.aicc,
                note=note,
            )
        )
    return tuple(result)


def _by_authors(
    authors: Alternative, amounts: dict[str, Interval], ratios: dict[str, Interval]
) -> tuple[dict[str, Interval], dict[str, Interval]]:
    """The authors' values beside the intervals of our own law."""
    if authors.note:
        raise UserError(authors.note)

    def beside(own: Interval, value: float | None) -> Interval:
        note = "; ".join(part for part in (own.note, "interval of our own law") if part)
        return Interval(value, own.low, own.high, own.extrapolated, note)

    return (
        {name: beside(own, authors.equivalent_x[name]) for name, own in amounts.items()},
        {label: beside(own, authors.ratios[label]) for label, own in ratios.items()},
    )


def _candidate_notes(amounts: Mapping[str, Interval]) -> tuple[str, ...]:
    return tuple(f"{name}: {value.note}" for name, value in amounts.items() if value.note)


def _finite_exp(value: float) -> float | None:
    with np.errstate(over="ignore"):
        found = float(np.exp(value))
    return found if np.isfinite(value) and np.isfinite(found) else None


def _without_infinities(value: Any) -> Any:
    """Nested values with None in place of every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
