"""A reference curve that is read off between its points, where no law fits.

Shape legend as in laws.py: R curves, N reference points, M losses.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

_INVERSION_HALVINGS = 50
# A curve that bends at a point follows the line, a smooth one the cubic; half as far beyond each
# leaves both inside 90 % intervals where noise is as large as the difference, too.
_SHAPES = (-0.5, 1.5)


@dataclass(frozen=True)
class InterpolatedCurves:
    """Monotone cubic through the points (PCHIP in ln x) after pooling violators (isotonic).

    It is no law: outside the measured range it answers +inf or -inf, never a number. Between two
    points nothing but falling is known of the curve: `straight` [R] is how far an equivalent is
    moved from the cubic's towards that of the straight line between them (0: the cubic's).
    """

    log_x: np.ndarray  # [N], increasing
    values: np.ndarray  # [R, N], non-increasing along N
    cubics: np.ndarray  # [4, N-1, R], scipy's order: highest power first
    straight: np.ndarray

    def loss(self, log_x: np.ndarray) -> np.ndarray:
        """Loss [R, M] in nats per token at ln(x) [M]; nan outside the measured range."""
        segment = np.clip(np.searchsorted(self.log_x, log_x) - 1, 0, len(self.log_x) - 2)
        t = log_x - self.log_x[segment]
        c = self.cubics[:, segment, :]
        value = ((c[0] * t[:, None] + c[1]) * t[:, None] + c[2]) * t[:, None] + c[3]
        inside = (log_x >= self.log_x[0]) & (log_x <= self.log_x[-1])
        return np.where(inside[None, :], value.T, np.nan)

    def log_equivalent(self, loss: np.ndarray) -> np.ndarray:
        """ln(x) [R, M] at which each curve reaches its row of `loss` [R, M]; see `Curves`."""
        segment = (self.values[:, None, 1:-1] > loss[:, :, None]).sum(axis=2)
        rows = np.arange(len(loss))[:, None]
        cubic = self.cubics[:, segment, rows]
        low = np.zeros_like(loss)
        high = np.diff(self.log_x)[segment]
        for _ in range(_INVERSION_HALVINGS):
            middle = (low + high) / 2
            value = ((cubic[0] * middle + cubic[1]) * middle + cubic[2]) * middle + cubic[3]
            low = np.where(value > loss, middle, low)
            high = np.where(value > loss, high, middle)
        curved, width = (low + high) / 2, np.diff(self.log_x)[segment]
        first, last = self.values[rows, segment], self.values[rows, segment + 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            line = np.where(first > last, (first - loss) / (first - last) * width, curved)
        moved = curved + self.straight[:, None] * (line - curved)
        result = self.log_x[segment] + np.clip(moved, 0.0, width)
        result = np.where(loss < self.values[:, -1:], np.inf, result)
        return np.where(loss > self.values[:, :1], -np.inf, result)

    def take(self, rows: np.ndarray) -> "InterpolatedCurves":
        """The curves at the given rows."""
        return InterpolatedCurves(
            self.log_x, self.values[rows], self.cubics[:, :, rows], self.straight[rows]
        )

    def drawn(self, rng: np.random.Generator) -> "InterpolatedCurves":
        """The curves with a shape drawn for each: from the cubic to the line, and some beyond."""
        return replace(self, straight=rng.uniform(*_SHAPES, size=len(self.values)))


def fit_interpolation(
    log_x: np.ndarray, losses: np.ndarray, weights: np.ndarray
) -> InterpolatedCurves:
    """Isotonic regression, then monotone cubic interpolation, of R curves `losses` [R, N]."""
    values = losses.copy()
    for row in np.flatnonzero((np.diff(losses, axis=1) > 0).any(axis=1)):
        values[row] = isotonic_regression(losses[row], weights=weights, increasing=False).x
    cubics = PchipInterpolator(log_x, values, axis=1).c
    return InterpolatedCurves(log_x, values, cubics, straight=np.zeros(len(values)))
