"""Values with intervals from resamples.

Shape legend: R resamples.
"""

from dataclasses import dataclass, replace

import numpy as np

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

    def times(self, factor: float) -> "Interval":
        """The interval of the value times a positive number."""
        value, low, high = (
            None if end is None else factor * end for end in (self.value, self.low, self.high)
        )
        return replace(self, value=value, low=low, high=high)

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
