"""How much target data a loss is worth: the reference law, its choice, and its inversion.

The reference law is the held-out target loss of the reference recipe against its unique target
tokens. A candidate's loss, inverted through it, is an equivalent amount of target data; the ratio
of two equivalents is a data efficiency (arXiv 2603.04964, section 2 and appendix H).

Shape legend as in laws.py: R curves, N reference points, M losses.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay_jax.analysis.statistics import laws
from replay_jax.analysis.statistics.authors import fit_authors_recipe
from replay_jax.analysis.statistics.interpolation import InterpolatedCurves, fit_interpolation
from replay_jax.analysis.statistics.laws import Curves, PowerCurves
from replay_jax.errors import UserError
from replay_jax.progress import step_by_step

MIN_POINTS = 3
MIN_BOUNDED_POINTS = 6  # leaving one out must leave more points than its four parameters
# A curve through the points is no law (it cannot leave the measured range), so it is chosen only
# where it predicts left-out points at least this many times better than every law.
_INTERPOLATION_ADVANTAGE = 2.0

LAW_NAMES = ("log_linear", "power", "bounded_power", "interpolation")
LAW_TITLES = {
    "log_linear": "L = a - b ln x (log-linear limit of the power law)",
    "power": "L = A / x^B + C",
    "bounded_power": "L = A / (x^B + D) + C",
    "interpolation": "monotone interpolation (no law)",
    "authors": "L = A / x^B + C by the authors' recipe",
}

_INTERPOLATION = LAW_NAMES.index("interpolation")  # the last: everything before it is a law

_FITS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], Curves]] = {
    "log_linear": laws.fit_log_linear,
    "power": laws.fit_power,
    "bounded_power": laws.fit_bounded_power,
    "interpolation": fit_interpolation,
}


@dataclass(frozen=True)
class ReferencePoints:
    """Losses of the reference recipe: x [N] increasing (any unit), loss [N] nats, weights [N]."""

    x: np.ndarray
    loss: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        if len(self.x) < MIN_POINTS:
            raise UserError(
                f"a reference curve needs at least {MIN_POINTS} amounts of target data, got "
                f"{len(self.x)} ({', '.join(f'{value:g}' for value in self.x)}); "
                "add reference runs at other budgets"
            )
        if np.any(np.diff(self.x) <= 0):
            raise UserError(f"reference amounts must be distinct and increasing, got {self.x}")
        if self.x[0] <= 0:
            raise UserError(f"reference amounts must be positive, got {self.x[0]:g}")

    @property
    def log_x(self) -> np.ndarray:
        """ln(x), [N]."""
        return np.log(self.x)


@dataclass(frozen=True)
class LawScore:
    """How well one law fits: root-mean-square errors in nats; None where it cannot be judged.

    `leave_one_out` predicts each point from the others (ends by extrapolation), `aicc` is the
    small-sample Akaike criterion (Hurvich and Tsai 1989, with the noise variance as a parameter).
    """

    name: str
    residual: float
    leave_one_out: float | None
    aicc: float | None


def fit_law(name: str, points: ReferencePoints, losses: np.ndarray) -> Curves:
    """Fit the named law to R curves `losses` [R, N] at the points' x and weights."""
    if name == "authors":
        return fit_authors_recipe(points.x, losses[0])
    return _FITS[name](points.log_x, losses, points.weights)


def leave_one_out(name: str, points: ReferencePoints, losses: np.ndarray) -> np.ndarray | None:
    """Weighted mean squared leave-one-out error [R] of a law; None with too few points to judge."""
    parameters = laws.LAW_PARAMETERS.get(name, 2)
    if name == "bounded_power" and len(points.x) < MIN_BOUNDED_POINTS:
        return None
    if len(points.x) - 1 < max(parameters, MIN_POINTS):
        return None
    total = np.zeros(len(losses))
    for left_out in step_by_step(range(len(points.x)), f"trying the law {name}"):
        rest = np.arange(len(points.x)) != left_out
        log_x, kept = points.log_x[rest], losses[:, rest]
        curves = _FITS[name](log_x, kept, points.weights[rest])
        predicted = curves.loss(points.log_x[left_out : left_out + 1])[:, 0]
        if name == "interpolation" and left_out in (0, len(points.x) - 1):
            predicted = _secant(log_x, kept, points.log_x[left_out])
        total += points.weights[left_out] * (predicted - losses[:, left_out]) ** 2
    return total / points.weights.sum()


def choose_laws(
    points: ReferencePoints, losses: np.ndarray, among: Sequence[str] = LAW_NAMES
) -> tuple[np.ndarray, np.ndarray]:
    """Indices into LAW_NAMES [R]: the chosen one on each curve, and the best that is a law.

    Chosen is the least leave-one-out error `among` the named. Laws that cannot be judged are not
    chosen; with three points nothing can be judged and the power law (which contains its log-linear
    limit) is used. Interpolation, which is no law, must be twice as good, unless no law is named.
    """
    errors = np.full((len(LAW_NAMES), len(losses)), np.inf)
    if not set(among) - {"interpolation"}:
        silent = np.full(len(losses), _INTERPOLATION)
        return silent, silent
    for index, name in enumerate(LAW_NAMES):
        if name not in among:
            continue
        error = leave_one_out(name, points, losses)
        if error is not None:
            advantage = _INTERPOLATION_ADVANTAGE if name == "interpolation" else 1.0
            errors[index] = error * advantage**2
    if not np.isfinite(errors).any():
        power = np.full(len(losses), LAW_NAMES.index("power"))
        return power, power
    return errors.argmin(axis=0), errors[:_INTERPOLATION].argmin(axis=0)


def score_laws(points: ReferencePoints) -> tuple[LawScore, ...]:
    """Fit every law to the points themselves and score it."""
    scores = []
    count = len(points.x)
    losses = points.loss[None, :]
    for name in LAW_NAMES:
        left_out = leave_one_out(name, points, losses)
        residuals = fit_law(name, points, losses).loss(points.log_x)[0] - points.loss
        square = float((points.weights * residuals**2).sum() / points.weights.sum())
        aicc = None
        parameters = laws.LAW_PARAMETERS.get(name, count) + 1
        if count - parameters - 1 > 0 and square > 0:
            correction = 2 * parameters * (parameters + 1) / (count - parameters - 1)
            aicc = count * float(np.log(square)) + 2 * parameters + correction
        scores.append(
            LawScore(
                name=name,
                residual=square**0.5,
                leave_one_out=None if left_out is None else float(left_out[0]) ** 0.5,
                aicc=aicc,
            )
        )
    return tuple(scores)


@dataclass(frozen=True)
class ReferenceLaw:
    """R fitted reference curves, each with its own chosen law (row 0 of the data, or resamples).

    `beyond` is the law that answers outside the measured range where interpolation was chosen;
    equal to `chosen` where interpolation shall stay silent there.
    """

    chosen: np.ndarray  # [R], index into LAW_NAMES
    beyond: np.ndarray  # [R], index into LAW_NAMES
    curves: tuple[tuple[int, Curves], ...]  # (law index, curves of all R rows)

    def log_equivalent(self, loss: np.ndarray) -> np.ndarray:
        """ln(x) [R, M] equivalent to losses [R, M]; +-inf or nan as in laws.Curves."""
        return self._answer(lambda curves, rows: curves.log_equivalent(loss[rows]), loss.shape)

    def loss(self, log_x: np.ndarray) -> np.ndarray:
        """Loss [R, M] in nats per token at ln(x) [M]; nan where an interpolation is silent."""
        shape = (len(self.chosen), len(log_x))
        return self._answer(lambda curves, rows: curves.loss(log_x), shape)

    def _answer(
        self, ask: Callable[[Curves, np.ndarray], np.ndarray], shape: tuple[int, ...]
    ) -> np.ndarray:
        result, outside = np.full(shape, np.nan), np.full(shape, np.nan)
        for index, curves in self.curves:
            for laws_of_rows, answers in ((self.chosen, result), (self.beyond, outside)):
                rows = np.flatnonzero(laws_of_rows == index)
                if len(rows):
                    answers[rows] = ask(curves.take(rows), rows)
        silent = (self.chosen == _INTERPOLATION)[:, None] & ~np.isfinite(result)
        return np.where(silent, outside, result)

    def with_shapes(self, rng: np.random.Generator) -> "ReferenceLaw":
        """The same with the shape of every interpolated curve drawn (InterpolatedCurves.drawn)."""
        curves = tuple(
            (index, found.drawn(rng) if isinstance(found, InterpolatedCurves) else found)
            for index, found in self.curves
        )
        return replace(self, curves=curves)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the R rows that chose each law."""
        return {
            name: float((self.chosen == index).mean())
            for index, name in enumerate(LAW_NAMES)
            if (self.chosen == index).any()
        }


def fit_reference(
    points: ReferencePoints,
    losses: np.ndarray,
    *,
    law: str | None = None,
    among: Sequence[str] = LAW_NAMES,
    silent_outside: bool = True,
    read_off: np.ndarray | None = None,
) -> ReferenceLaw:
    """Choose and fit a law on each row of `losses` [R, N], `among` the named; `law` fixes it.

    `silent_outside`: an interpolated curve gives no number outside the measured range; if False the
    row's best law answers there. Rows `read_off` [R] (misfit.py) are interpolated whatever is best.
    """
    if law is None:
        chosen, beyond = choose_laws(points, losses, among)
        beyond = chosen if silent_outside else beyond
    else:
        chosen = np.full(len(losses), LAW_NAMES.index(law))
        beyond = chosen
    if read_off is not None:
        chosen = np.where(read_off, _INTERPOLATION, chosen)
    used = np.union1d(chosen, beyond)
    curves = tuple((int(index), fit_law(LAW_NAMES[index], points, losses)) for index in used)
    return ReferenceLaw(chosen=chosen, beyond=beyond, curves=curves)


def point_weights(variances: np.ndarray) -> np.ndarray:
    """Weights [N] of points from the variances of their means over seeds; their mean is 1."""
    weights = 1 / np.maximum(variances, 1e-12)
    return weights / weights.mean()


def require_falling(points: ReferencePoints) -> None:
    """Raise UserError unless the points' loss falls with x (by the slope of a log-linear fit)."""
    line = laws.fit_log_linear(points.log_x, points.loss[None], points.weights)
    if line.slope[0] <= 0:
        listed = ", ".join(f"{loss:.4f}" for loss in points.loss)
        raise UserError(
            f"reference loss does not fall with more target data ({listed} with growing x), so a "
            "loss cannot be turned into an amount; check the reference runs, or tune their epochs"
        )


def offset_error(points: ReferencePoints, curves: PowerCurves, variance: float) -> float:
    """Standard error of C in nats by the delta method; inf at the log-linear limit.

    `variance` is that of one reference point of mean weight (nats squared).
    """
    b = float(curves.exponent[0])
    if b <= laws.MIN_EXPONENT:
        return float("inf")
    u = points.log_x - curves.center
    power = np.exp(-b * u)
    height = float(curves.slope[0]) / b
    jacobian = np.stack([power, -height * u * power, np.ones_like(u)], axis=1)
    weights = points.weights / points.weights.mean()
    information = jacobian.T @ (weights[:, None] * jacobian)
    if np.linalg.cond(information) > 1e14:
        return float("inf")
    return float(np.sqrt(variance * np.linalg.inv(information)[2, 2]))


def _secant(log_x: np.ndarray, losses: np.ndarray, at: float) -> np.ndarray:
    """Straight line through the two points nearest to `at`, for each curve."""
    near, next_ = (0, 1) if at < log_x[0] else (-1, -2)
    slope = (losses[:, near] - losses[:, next_]) / (log_x[near] - log_x[next_])
    return losses[:, near] + slope * (at - log_x[near])
