"""A second opinion on a recommendation, made another way from the same runs.

Here is what it says and whether it contradicts the first; how it is made is in `analysis/bayes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replay_jax.analysis.advice.verdict import HELPS, HURTS
from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.statistics.bootstrap import Interval

# A sign that a posterior holds less likely than this contradicts a verdict that says it.
_DOUBTED = 0.5
# Of the potential scale reduction of the chains (Vehtari et al. 2021).
LARGEST_R_HAT = 1.05


@dataclass(frozen=True)
class Sampling:
    """How well the posterior was sampled: `r_hat` is the largest of any parameter."""

    draws: int
    divergences: int
    r_hat: float

    @property
    def trusted(self) -> bool:
        """Whether the chains agree and no step of them diverged."""
        return self.divergences == 0 and self.r_hat <= LARGEST_R_HAT


@dataclass(frozen=True)
class Opinion:
    """What a posterior says of the recommended schedule against its rival.

    gain: target loss of the rival less the schedule's, nats per token; `helps` is the probability
      that it is above zero.
    multiplier: the same in target data; None without a reference law.
    best: probability of each sampled replay fraction of the group to have the lowest target loss.
    level: of the intervals.
    """

    gain: Interval
    helps: float
    multiplier: Interval | None
    best: Mapping[float, float]
    sampling: Sampling
    level: float

    @property
    def words(self) -> str:
        """The opinion in one line, and how far its sampling can be trusted."""
        gain = self.gain
        worth = ""
        if self.multiplier is not None and self.multiplier.value is not None:
            low, high = (
                "?" if end is None else f"{end:.2f}"
                for end in (self.multiplier.low, self.multiplier.high)
            )
            worth = f", worth {self.multiplier.value:.2f} times the target data ({low} to {high})"
        rho = max(self.best, key=lambda fraction: self.best[fraction])
        lines = (
            f"a Bayesian fit of the same runs: gain {gain.value:.3f} nat ({gain.low:.3f} to "
            f"{gain.high:.3f}){worth}, above zero with probability {_share(self.helps)}; best "
            f"replay fraction {fraction_words(rho)} with probability {_share(self.best[rho])}"
        )
        if self.sampling.trusted:
            return lines
        return (
            f"{lines}; its sampling is not to be trusted ({self.sampling.divergences} divergences, "
            f"R-hat {self.sampling.r_hat:.2f})"
        )

    def contradicts(
        self, verdict: str, gain: Interval, multiplier: Interval | None
    ) -> tuple[str, ...]:
        """In words, where the first answer is another: signs, or intervals that do not overlap."""
        found = []
        if verdict == HELPS and self.helps < _DOUBTED:
            found.append(f"it helps with probability {_share(self.helps)} only")
        if verdict == HURTS and self.helps > _DOUBTED:
            found.append(f"it helps with probability {_share(self.helps)}")
        if _apart(self.gain, gain):
            found.append("the intervals of the gain do not overlap")
        if self.multiplier is not None and multiplier is not None:
            if _apart(self.multiplier, multiplier):
                found.append("the intervals of the multiplier do not overlap")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON object."""
        return {
            "gain_nats": self.gain.to_json(),
            "gain_above_zero": self.helps,
            "multiplier": None if self.multiplier is None else self.multiplier.to_json(),
            "best_replay_fraction": {f"{rho:g}": share for rho, share in self.best.items()},
            "draws": self.sampling.draws,
            "divergences": self.sampling.divergences,
            "r_hat": self.sampling.r_hat,
            "level": self.level,
        }


def _apart(one: Interval, other: Interval) -> bool:
    """Whether two intervals have no point in common; one without an end reaches everywhere."""
    return any(
        a.high is not None and b.low is not None and a.high < b.low
        for a, b in ((one, other), (other, one))
    )


def _share(probability: float) -> str:
    if probability > 0.995:
        return "above .99"
    return "below .01" if probability < 0.005 else f"{probability:.2f}".lstrip("0")
