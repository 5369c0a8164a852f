"""Loss as a function of target tokens: three laws, fitted to many resampled curves at once.

Shape legend: R curves (one per bootstrap resample; 1 for the data themselves), N reference points,
M losses to invert, G grid values of a nonlinear parameter.

Every law is written in u = ln(x) - center, where center is the mean of ln(x) over the reference
points, so that the fits do not depend on the unit of x. Losses are nats per token.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

MAX_EXPONENT = 4.0
# Below this exponent the power law and its log-linear limit differ by less than 1 % of the loss
# range over a factor 16 in x: the exponent says nothing.
MIN_EXPONENT = 0.01
_EXPONENTS = np.concatenate([[0.0], np.geomspace(MIN_EXPONENT, MAX_EXPONENT, 40)])
_REFINE_POINTS = 9
_REFINE_ROUNDS = 5

LAW_PARAMETERS = {"log_linear": 2, "power": 3, "bounded_power": 4}


class Curves(Protocol):
    """R fitted curves of one law."""

    def loss(self, log_x: np.ndarray) -> np.ndarray:
        """Loss [R, M] in nats per token at ln(x) [M]."""
        ...

    def log_equivalent(self, loss: np.ndarray) -> np.ndarray:
        """ln(x) [R, M] at which each curve reaches its row of `loss` [R, M].

        +inf: below the curve's floor, no amount is enough; -inf: above its ceiling; nan: flat.
        """
        ...

    def take(self, rows: np.ndarray) -> "Curves":
        """The curves at the given rows."""
        ...


@dataclass(frozen=True)
class PowerCurves:
    """L = A / x^B + C with A, B >= 0, and its limit L = a - b ln(x) at B = 0.

    Stored as L = level + slope * expm1(-B u) / B, which stays finite as B goes to 0 (the law is
    that of arXiv 2603.04964, appendix H; the limit is ours). All fields have shape [R].
    """

    level: np.ndarray
    slope: np.ndarray
    exponent: np.ndarray
    center: float

    def loss(self, log_x: np.ndarray) -> np.ndarray:
        """Loss [R, M] in nats per token at ln(x) [M]."""
        shape = _power_shape(log_x[None, :] - self.center, self.exponent[:, None])
        return self.level[:, None] + self.slope[:, None] * shape

    def log_equivalent(self, loss: np.ndarray) -> np.ndarray:
        """ln(x) [R, M] at which each curve reaches its row of `loss` [R, M]; see `Curves`."""
        exponent = self.exponent[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            shape = (loss - self.level[:, None]) / self.slope[:, None]
            inside = exponent * shape
            bent = -np.log1p(np.maximum(inside, -1.0)) / np.where(exponent > 0, exponent, 1.0)
        u = np.where(exponent > 0, bent, -shape)
        return np.where(self.slope[:, None] > 0, u + self.center, np.nan)

    def take(self, rows: np.ndarray) -> "PowerCurves":
        """The curves at the given rows."""
        return PowerCurves(self.level[rows], self.slope[rows], self.exponent[rows], self.center)

    def coefficients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(A, B, C), each [R], of L = A / x^B + C; not finite where B = 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            height = self.slope / self.exponent
        return height * np.exp(self.exponent * self.center), self.exponent, self.level - height


@dataclass(frozen=True)
class BoundedCurves:
    """L = A / (x^B + D) + C: a power law with a ceiling for little data (marin two_stage plots).

    Stored as L = floor + height / (1 + exp(B (u - knee))), so D = exp(B (knee + center)). All
    fields have shape [R].
    """

    floor: np.ndarray
    height: np.ndarray
    exponent: np.ndarray
    knee: np.ndarray
    center: float

    def loss(self, log_x: np.ndarray) -> np.ndarray:
        """Loss [R, M] in nats per token at ln(x) [M]."""
        u = log_x[None, :] - self.center
        shape = _bounded_shape(u, self.exponent[:, None], self.knee[:, None])
        return self.floor[:, None] + self.height[:, None] * shape

    def log_equivalent(self, loss: np.ndarray) -> np.ndarray:
        """ln(x) [R, M] at which each curve reaches its row of `loss` [R, M]; see `Curves`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip((loss - self.floor[:, None]) / self.height[:, None], 0.0, 1.0)
            logit = np.log(share) - np.log1p(-share)
        u = self.knee[:, None] - logit / self.exponent[:, None]
        return np.where(self.height[:, None] > 0, u + self.center, np.nan)

    def take(self, rows: np.ndarray) -> "BoundedCurves":
        """The curves at the given rows."""
        return BoundedCurves(
            self.floor[rows],
            self.height[rows],
            self.exponent[rows],
            self.knee[rows],
            self.center,
        )


def fit_log_linear(log_x: np.ndarray, losses: np.ndarray, weights: np.ndarray) -> PowerCurves:
    """Weighted least squares of L = a - b ln(x), b >= 0, to R curves `losses` [R, N]."""
    return _fit_power(log_x, losses, weights, np.zeros(1))


def fit_power(log_x: np.ndarray, losses: np.ndarray, weights: np.ndarray) -> PowerCurves:
    """Weighted least squares of L = A / x^B + C to R curves `losses` [R, N], 0 <= B <= 4.

    Variable projection: given B the law is linear in the other two, so only B is searched, on a
    grid that starts at the log-linear limit and is refined around its best point. No start value.
    """
    return _fit_power(log_x, losses, weights, _EXPONENTS)


def _power_shape(u: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    if (exponent > 0).all():
        return np.expm1(-exponent * u) / exponent
    bent = np.expm1(-exponent * u) / np.where(exponent > 0, exponent, 1.0)
    return np.where(exponent > 0, bent, -u)


def _bounded_shape(u: np.ndarray, exponent: np.ndarray, knee: np.ndarray) -> np.ndarray:
    return 0.5 - 0.5 * np.tanh(exponent * (u - knee) / 2)


def _grid_errors(shapes: np.ndarray, losses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted squared error [R, G] of the best level + slope * shape, slope >= 0, for each shape.

    `shapes` is [G, N], the same for all curves, or [R, G, N]; `losses` [R, N].
    """
    share = weights / weights.sum()
    shapes = shapes - (shapes @ share)[..., None]
    losses = losses - (losses @ share)[:, None]
    weighted = losses * weights
    if shapes.ndim == 2:
        together = weighted @ shapes.T
    else:
        together = np.matmul(shapes, weighted[:, :, None])[:, :, 0]
    spread = np.maximum((shapes * shapes) @ weights, 1e-300)
    return (losses * weighted).sum(axis=1)[:, None] - np.maximum(together, 0.0) ** 2 / spread


def _solve(
    shape: np.ndarray, losses: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(slope, level) [R] of the weighted least squares loss = level + slope * shape, slope >= 0."""
    share = weights / weights.sum()
    shape_mean, loss_mean = shape @ share, losses @ share
    shape, losses = shape - shape_mean[:, None], losses - loss_mean[:, None]
    spread = np.maximum((shape * shape) @ weights, 1e-300)
    slope = np.maximum((shape * losses) @ weights, 0.0) / spread
    return slope, loss_mean - slope * shape_mean


def _fit_power(
    log_x: np.ndarray, losses: np.ndarray, weights: np.ndarray, exponents: np.ndarray
) -> PowerCurves:
    center = float(log_x.mean())
    u = log_x - center
    rows = np.arange(len(losses))
    exponent = np.zeros(len(losses))
    if len(exponents) > 1:
        best = _grid_errors(_power_shape(u, exponents[:, None]), losses, weights).argmin(axis=1)
        low = exponents[np.maximum(best - 1, 1)]
        high = exponents[np.minimum(best + 1, len(exponents) - 1)]
        for _ in range(_REFINE_ROUNDS):
            tries = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, _REFINE_POINTS)
            shapes = _power_shape(u, tries[:, :, None])
            place = _grid_errors(shapes, losses, weights).argmin(axis=1)
            exponent = tries[rows, place]
            low = tries[rows, np.maximum(place - 1, 0)]
            high = tries[rows, np.minimum(place + 1, _REFINE_POINTS - 1)]
        # A curve whose best grid point is the limit itself stays there: B < MIN_EXPONENT is noise.
        exponent = np.where(best > 0, exponent, 0.0)
    slope, level = _solve(_power_shape(u, exponent[:, None]), losses, weights)
    return PowerCurves(level, slope, exponent, center)


def fit_bounded_power(log_x: np.ndarray, losses: np.ndarray, weights: np.ndarray) -> BoundedCurves:
    """Weighted least squares of L = A / (x^B + D) + C to R curves `losses` [R, N], A, D >= 0.

    Variable projection over a refined grid of (B, ln D); needs four points.
    """
    center = float(log_x.mean())
    u = log_x - center
    span = u[-1] - u[0]
    low = np.array([0.1, u[0] - span])
    high = np.array([MAX_EXPONENT, u[-1] + 0.25 * span])
    low, high = (np.broadcast_to(edge, (len(losses), 2)) for edge in (low, high))
    rows = np.arange(len(losses))
    for points in (17, 7, 7, 7, 7):
        steps = np.linspace(0, 1, points)
        exponent = low[:, :1] * (high[:, :1] / low[:, :1]) ** steps
        knee = low[:, 1:] + (high[:, 1:] - low[:, 1:]) * steps
        error = np.empty((len(losses), points, points))
        for column in range(points):  # one column of the grid at a time bounds the memory
            shapes = _bounded_shape(u, exponent[:, :, None], knee[:, column, None, None])
            error[:, :, column] = _grid_errors(shapes, losses, weights)
        best = error.reshape(len(losses), -1).argmin(axis=1)
        i, j = best // points, best % points
        low = np.stack(
            [exponent[rows, np.maximum(i - 1, 0)], knee[rows, np.maximum(j - 1, 0)]], axis=1
        )
        high = np.stack(
            [
                exponent[rows, np.minimum(i + 1, points - 1)],
                knee[rows, np.minimum(j + 1, points - 1)],
            ],
            axis=1,
        )
    exponent, knee = exponent[rows, i], knee[rows, j]
    height, floor = _solve(_bounded_shape(u, exponent[:, None], knee[:, None]), losses, weights)
    return BoundedCurves(floor, height, exponent, knee, center)
