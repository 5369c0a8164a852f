"""Whether a law misses the reference points by more than their seeds explain.

A law that does is wrong where it matters: its slope is off somewhere, by as much in every resample,
so no noise added to it covers the truth (intervals of the multiplier on bent curves held it in 0.7
to 71 % of simulated studies). It is not used; with no law left, amounts are read off between the
measured points, and refused outside them.

One that is not rejected may miss them as well, by less than the test finds. How far it does is
drawn for every resample, and as large a share of them is read off between the points.

Shape legend: N reference points, R resamples.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc

from replay_jax.analysis.statistics import laws
from replay_jax.analysis.statistics.efficiency import (
    LAW_NAMES,
    MIN_BOUNDED_POINTS,
    ReferencePoints,
    fit_law,
)
from replay_jax.analysis.statistics.laws import PowerCurves

LEVEL = 0.02  # of the test
_FIT_PRECISION = 1e-4  # nats, of a law that fits exactly


@dataclass(frozen=True)
class Misfit:
    """One law against the points: `p` of the F test (1 where no point is spare to test it).

    `f`: the points' mean square about the law over that of their seeds, with `spare` and `freedom`
    degrees of freedom. `excess`: standard deviation (nats) of the points about the law beyond what
    seeds explain.
    """

    p: float
    f: float
    spare: int
    freedom: float
    excess: float

    @property
    def rejected(self) -> bool:
        """Whether the law misses the points."""
        return self.p < LEVEL

    def read_off(self, rng: np.random.Generator, *, resamples: int) -> np.ndarray:
        """Resamples [R] in which the curve goes through the points rather than by the law.

        The points scatter about the law with the seeds' variance and an excess of its own. What
        share the excess has is drawn from what F leaves possible (of `f` over a draw of F, all that
        is above 1), and with those odds a resample follows the points.
        """
        if self.spare < 1:
            return np.zeros(resamples, bool)
        ratio = self.f / rng.f(self.spare, self.freedom, size=resamples)
        odds: np.ndarray = 1 - 1 / np.maximum(ratio, 1.0)
        return rng.random(resamples) < odds


def misfit(name: str, points: ReferencePoints, variances: np.ndarray, *, freedom: float) -> Misfit:
    """Test the named law; `variances` [N] (nats squared) of the points are known to `freedom`."""
    curves = fit_law(name, points, points.loss[None])
    # A curve through falling points has nothing to spare; where they rise, one for each rise.
    rises = int((np.diff(points.loss) > 0).sum())
    parameters = laws.LAW_PARAMETERS.get(name, len(points.x) - rises)
    if isinstance(curves, PowerCurves) and curves.exponent[0] == 0:
        parameters = laws.LAW_PARAMETERS["log_linear"]  # its limit, where the exponent is no choice
    spare = len(points.x) - parameters
    residuals = curves.loss(points.log_x)[0] - points.loss
    if spare < 1:
        return Misfit(1.0, 0.0, 0, freedom, 0.0)
    # Runs may not differ at all, and the fit of a true law is not exact.
    variances = np.maximum(variances, _FIT_PRECISION**2)
    f = float((residuals**2 / variances).sum()) / spare
    p = float(fdtrc(spare, freedom, f))
    excess = float((residuals**2).sum()) / spare - float(variances.mean())
    return Misfit(p, f, spare, freedom, max(excess, 0.0) ** 0.5)


def fitting_laws(
    points: ReferencePoints, variances: np.ndarray, *, freedom: float
) -> tuple[str, ...]:
    """Laws that do not miss the points, interpolation among them; empty if all do.

    Interpolation misses points that rise by more than their seeds explain.
    """
    judged = [
        name for name in LAW_NAMES if name != "bounded_power" or len(points.x) >= MIN_BOUNDED_POINTS
    ]
    return tuple(
        name for name in judged if not misfit(name, points, variances, freedom=freedom).rejected
    )
