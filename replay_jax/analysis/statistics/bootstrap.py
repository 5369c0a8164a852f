"""Values with intervals from resamples, and whether a law misses its points.

Shape legend: R resamples, N reference points.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import f as f_distribution

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
