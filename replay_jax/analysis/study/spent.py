"""What the training of one setting cost beside another's, and what a gain cost of it.

FLOPs where both have them, steps elsewhere.
"""

import math
from dataclasses import dataclass
from typing import Protocol

from replay_jax.analysis.statistics.bootstrap import Interval

SAME = 0.01  # relative: rounding to whole steps


class Trained(Protocol):
    """A setting of a study; None: records do not say."""

    @property
    def steps(self) -> float | None:
        """Updates of one run."""

    @property
    def flops(self) -> float | None:
        """Of training one run."""


@dataclass(frozen=True)
class Spent:
    """Training of one run of each of two settings, in `unit`: "FLOPs" or "steps"."""

    unit: str
    own: float
    other: float

    @property
    def ratio(self) -> float:
        """Own training over the other's."""
        return self.own / self.other

    @property
    def extra(self) -> float:
        """How much more the first was trained; 0 where they are the same but for rounding."""
        return 0.0 if abs(self.ratio - 1) <= SAME else self.own - self.other

    @property
    def step(self) -> float:
        """The power of ten that the extra training is a few of: what a gain is told by."""
        return 10.0 ** math.floor(math.log10(self.extra))

    def per_step(self, gained: Interval | None) -> Interval | None:
        """What was gained for each `step` of extra training; None where there was none."""
        if gained is None or self.extra <= 0:
            return None
        return gained.times(self.step / self.extra)


def amount(value: float) -> str:
    """Steps or FLOPs in words."""
    return f"{value:,.0f}" if value < 1e6 else f"{value:.3g}".replace("e+", "e")


def spent(own: Trained, other: Trained) -> Spent | None:
    """Compare the training of two settings; None where records do not say."""
    if own.flops is not None and other.flops is not None:
        return Spent("FLOPs", own.flops, other.flops)
    if own.steps is not None and other.steps is not None:
        return Spent("steps", own.steps, other.steps)
    return None
