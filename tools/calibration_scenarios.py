"""The sweeps that tools/calibrate_intervals.py simulates, in three parts.

They leave the family of curves and noise that the analysis assumes: bent and broken laws, the
authors' published points, four to six budgets, two to five seeds and one, noise that goes with the
budget or with replay, uneven noise, outliers, missing runs, and sweeps in which only the allocation
or nothing at all helps. Settings of the analysis were chosen on the "tuning" part; what to mend was
seen on lines of "held-out" too; "fresh" was first run when the last setting was chosen.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.simulate import Luck, law, sweep
from replay_jax.analysis.study.study import CellResult

TUNED = ("schedule.target_epochs",)
BUDGET = 4096
REFERENCES = {
    "uniform": AnalysisConfig({"protocol": "uniform"}, TUNED, 0.9),
    "no replay": AnalysisConfig({"replay_fraction": 0.0}, TUNED, 0.9),
}
POINTS = Path(__file__).parents[1] / "experiments" / "published_points"


def helps(rho: float) -> float:
    """Worth of a replay fraction: best at .5, 1.32 times the budget."""
    return 0.8 * math.exp(2 * rho - 2 * rho * rho)


def helps_from_none(rho: float) -> float:
    """The same, 1 at rho = 0, whose runs are the reference."""
    return helps(rho) / helps(0.0)


def flat(rho: float) -> float:
    """Replay changes nothing, and nothing else does."""
    return 1.0


def bent(steep: float, shallow: float) -> Callable[[float], float]:
    """Loss whose slope per e-fold goes smoothly from `shallow` to `steep` between 1,024 and 32k."""

    def loss(tokens: float) -> float:
        u = math.log(tokens / 1024)
        span = math.log(32)
        return 5.0 - shallow * u - (steep - shallow) * u * u / (2 * span)

    return loss


def broken(tokens: float) -> float:
    """Two power laws that meet at 4,096 tokens, slope .1 before and .4 after."""
    u = math.log(tokens / 4096)
    return 4.0 - 0.25 * u - 0.15 * (math.log(2 * math.cosh(2 * u)) / 2)


def kinked(tokens: float) -> float:
    """A line of slope .08 that five measured budgets leave by .02 nat and less, to either side."""
    u = math.log(tokens / 1024)
    budgets = math.log(2) * np.arange(-1, 6)
    return 4.0 - 0.08 * u + float(np.interp(u, budgets, [0, 0, -0.02, 0.015, -0.02, 0.02, 0]))


def published(name: str) -> Callable[[float], float]:
    """The authors' reference points as the truth, monotone in between and linear beyond."""
    reference = json.loads((POINTS / f"{name}.json").read_text())["reference"]
    order = np.argsort(reference["x"])
    u = np.log(np.array(reference["x"])[order] * 1024 * 1024)
    loss = np.array(reference["loss"])[order]

    def at(tokens: float) -> float:
        v = math.log(tokens)
        if v < u[0]:
            return float(loss[0] + (v - u[0]) * (loss[1] - loss[0]) / (u[1] - u[0]))
        if v > u[-1]:
            return float(loss[-1] + (v - u[-1]) * (loss[-1] - loss[-2]) / (u[-1] - u[-2]))
        return float(np.interp(v, u, loss))

    return at


@dataclass(frozen=True)
class Scenario:
    """One kind of sweep; `null` where no replay fraction is better than the best without."""

    name: str
    seeds: int = 3
    luck: Luck = Luck(own=0.02, shared=0.02)
    curve: Callable[[float], float] = law
    budgets: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)
    reference: str = "uniform"
    worth: Callable[[float], float] = helps
    rhos: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75)
    allocations: tuple[float, ...] = (1.0,)
    of_allocation: Callable[[float], float] = field(default=lambda alpha: alpha**0.1)
    penalties: tuple[float, float] = (0.05, 0.05)  # of epochs: with replay, without

    def records(self, draw: int) -> list[dict[str, Any]]:
        """The records of one sweep."""
        return sweep(
            worth=self.worth,
            curve=self.curve,
            budgets=self.budgets,
            reference=self.reference,
            replay_fractions=self.rhos,
            allocations=self.allocations,
            of_allocation=self.of_allocation,
            seeds=range(self.seeds),
            luck=self.luck,
            epoch_penalty=self.penalties[0],
            baseline_penalty=self.penalties[1],
            draw=draw,
        )

    def equivalent(self, cell: CellResult) -> float:
        """True equivalent tokens of a cell at its best setting, the reference's epochs tuned."""
        key = cell.key
        worth = 1.0 if key.protocol == "uniform" or key.target_tokens != BUDGET else (
            self.worth(key.replay_fraction) * self.of_allocation(key.allocation)
        )  # fmt: skip
        return key.target_tokens * worth


FOUR = (2048, 4096, 8192, 16384)
SIX = (512, 1024, 2048, 4096, 8192, 16384)


def uneven(tokens: int, rho: float | None) -> float:
    """Noise whose variance falls 25 : 1 from the smallest budget to the largest."""
    return 5.0 ** (1 - math.log2(tokens / 1024) / 4) / 5.0**0.5


def noisy_baseline(tokens: int, rho: float | None) -> float:
    """The runs without replay are four times as noisy as the others."""
    return 4.0 if rho == 0 else 1.0


def noisy_replay(tokens: int, rho: float | None) -> float:
    """The runs that replay are three times as noisy as the others."""
    return 3.0 if rho else 1.0


def noisy_mixture(tokens: int, rho: float | None) -> float:
    """Constant mixtures are four times as noisy as the others."""
    return 4.0 if rho is None else 1.0


def real(scale: float = 1.0) -> Luck:
    """What the quickstart's records say of its noise."""
    return Luck(0.017 * scale, 0.027 * scale, 0.029 * scale, 0.025 * scale)


# Names may repeat between the parts; numbers do not.
TUNING = (
    Scenario("in family"),
    Scenario("in family", seeds=2),
    Scenario("slope .25 to .45, four budgets", curve=bent(0.45, 0.25), budgets=FOUR),
    Scenario("slope .08 to .40", curve=bent(0.40, 0.08)),
    Scenario("StarCoder's points", curve=published("starcoder")),
    Scenario("seed x budget", luck=Luck(0.02, 0.02, by_budget=0.04)),
    Scenario("seed x replay", luck=Luck(0.02, 0.02, by_protocol=0.03)),
    Scenario("the quickstart's noise, its design", luck=real(), budgets=FOUR,
             reference="no replay", worth=helps_from_none),
    Scenario("uneven 25 : 1", luck=Luck(0.02, 0.02, uneven=uneven)),
    Scenario("missing runs", luck=Luck(0.02, 0.02, missing=0.1)),
    Scenario("null", worth=flat),
    Scenario("null, seed x replay", worth=flat, luck=Luck(0.02, 0.02, by_protocol=0.03)),
    Scenario("null, allocation helps", worth=flat, allocations=(0.25, 0.5, 1.0),
             of_allocation=lambda alpha: alpha**-0.1),
    Scenario("null, flat grid without replay only", worth=flat, penalties=(0.2, 0.0)),
    Scenario("StarCoder's points, noise .04", curve=published("starcoder"), luck=Luck(0.04, 0.02)),
    Scenario("kinks as large as the noise", curve=kinked),
    Scenario("one of three fractions helps a little", worth=lambda rho: 1.1 if rho == 0.5 else 1.0),
    Scenario("one of seven fractions helps, four seeds", seeds=4,
             worth=lambda rho: 1.2 if rho == 0.25 else 1.0,
             rhos=(0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)),
    Scenario("null, all grids flat, four seeds", seeds=4, worth=flat, penalties=(0.0, 0.0)),
    Scenario("null, three allocations", worth=flat, allocations=(0.25, 0.5, 1.0),
             of_allocation=flat),
    Scenario("noisy replay, two seeds", seeds=2, luck=Luck(0.01, 0.02, uneven=noisy_replay)),
    Scenario("steep in the fraction", worth=lambda rho: 0.7 + 0.9 * rho,
             rhos=(0.0, 0.25, 0.5, 0.75, 0.875)),
)  # fmt: skip
HELD_OUT = (
    Scenario("in family, six budgets, five seeds", seeds=5, budgets=SIX),
    Scenario("in family, four budgets, two seeds", seeds=2, budgets=FOUR),
    Scenario("slope .15 to .35, four budgets", curve=bent(0.35, 0.15), budgets=FOUR),
    Scenario("slope .40 to .10, six budgets", curve=bent(0.10, 0.40), budgets=SIX),
    Scenario("broken law", curve=broken, seeds=5),
    Scenario("Flan's points", curve=published("flan")),
    Scenario("FineMath's points, four budgets", curve=published("finemath"), budgets=FOUR),
    Scenario("seed x budget, two seeds", seeds=2, luck=Luck(0.02, 0.02, by_budget=0.04)),
    Scenario("seed x replay, five seeds", seeds=5, luck=Luck(0.02, 0.02, by_protocol=0.03)),
    Scenario("the quickstart's noise, alpha", luck=real(), allocations=(0.5, 1.0)),
    Scenario("noisy baseline", luck=Luck(0.01, 0.02, uneven=noisy_baseline)),
    Scenario("outlier seeds", luck=Luck(0.02, 0.02, outliers=0.07)),
    Scenario("missing runs, the quickstart's noise", luck=Luck(0.017, 0.027, 0.029, 0.025,
             missing=0.15)),
    Scenario("one seed", seeds=1),
    Scenario("null, the quickstart's noise", worth=flat, luck=real(), allocations=(0.5, 1.0)),
    Scenario("null, allocation and mixture help", worth=lambda rho: 0.8,
             allocations=(0.25, 0.5, 1.0), of_allocation=lambda alpha: alpha**-0.1),
    Scenario("null, flat grid with replay only", worth=flat, penalties=(0.0, 0.2),
             rhos=(0.0, 0.25, 0.5, 0.75, 0.875)),
    Scenario("null, missing runs, two seeds", worth=flat, seeds=2,
             luck=Luck(0.02, 0.02, missing=0.1)),
    Scenario("near ties", worth=lambda rho: 1.0 + 0.2 * rho * (1.5 - rho)),
    Scenario("one of six fractions helps", worth=lambda rho: 1.3 if rho == 0.75 else 1.0,
             rhos=(0.0, 0.125, 0.25, 0.5, 0.625, 0.75, 0.875)),
    Scenario("better to the edge, missing runs", worth=lambda rho: 0.9 * math.exp(0.5 * rho),
             luck=Luck(0.02, 0.02, missing=0.1)),
    Scenario("outliers, five seeds, six budgets", seeds=5, budgets=SIX,
             luck=Luck(0.02, 0.02, outliers=0.04)),
    Scenario("noisy baseline, two seeds", seeds=2, luck=Luck(0.01, 0.02, uneven=noisy_baseline)),
    Scenario("StarCoder's points, six budgets, alpha", curve=published("starcoder"), budgets=SIX,
             luck=real(), allocations=(0.5, 1.0)),
    Scenario("null, four seeds, uneven, seed x budget", seeds=4, worth=flat,
             luck=Luck(0.02, 0.02, by_budget=0.02, uneven=uneven)),
    Scenario("null, outliers", worth=flat, luck=Luck(0.02, 0.02, outliers=0.07)),
    Scenario("null, all grids flat", worth=flat, penalties=(0.0, 0.0),
             rhos=(0.0, 0.25, 0.5, 0.75, 0.875)),
    Scenario("null, no replay as reference, two seeds", seeds=2, worth=flat, luck=real(),
             reference="no replay"),
)  # fmt: skip
FRESH = (
    Scenario("one of five fractions helps, four seeds", seeds=4, luck=real(),
             worth=lambda rho: 1.35 if rho == 0.5 else 1.0,
             rhos=(0.0, 0.125, 0.25, 0.5, 0.75, 0.875)),
    Scenario("one of four fractions hurts, allocations", allocations=(0.5, 1.0),
             worth=lambda rho: 0.7 if rho == 0.75 else 1.15 if rho else 1.0,
             rhos=(0.0, 0.25, 0.5, 0.625, 0.75)),
    Scenario("noisy replay", luck=Luck(0.01, 0.02, uneven=noisy_replay)),
    Scenario("noisy mixture, two seeds", seeds=2, luck=Luck(0.01, 0.02, uneven=noisy_mixture)),
    Scenario("slope .30 to .12, outliers, four seeds", seeds=4, curve=bent(0.12, 0.30),
             luck=Luck(0.02, 0.02, outliers=0.05)),
    Scenario("Flan's points, six budgets, missing runs, four seeds", seeds=4, budgets=SIX,
             curve=published("flan"), luck=Luck(0.02, 0.02, missing=0.1)),
    Scenario("FineMath's points, seed x replay, allocations", curve=published("finemath"),
             luck=Luck(0.02, 0.02, by_protocol=0.02), allocations=(0.25, 0.5, 1.0),
             of_allocation=lambda alpha: alpha**-0.05),
    Scenario("replay hurts", worth=lambda rho: 1.0 - 0.3 * rho),
    Scenario("null, an early allocation helps a lot", worth=flat, allocations=(0.25, 0.5, 1.0),
             of_allocation=lambda alpha: alpha**-0.3),
    Scenario("null, seed x replay, allocations, four seeds", seeds=4, worth=flat,
             allocations=(0.5, 1.0), luck=Luck(0.02, 0.02, by_protocol=0.03)),
    Scenario("null, noisy replay, six fractions", worth=flat,
             luck=Luck(0.01, 0.02, uneven=noisy_replay),
             rhos=(0.0, 0.125, 0.25, 0.5, 0.625, 0.75, 0.875)),
    Scenario("null, StarCoder's points, seed x budget", curve=published("starcoder"), worth=flat,
             luck=Luck(0.02, 0.02, by_budget=0.03)),
    # Of later: what a seed adds to all epochs of one schedule, at the most that records show.
    Scenario("seed x schedule, two seeds", seeds=2, luck=Luck(0.02, 0.02, by_schedule=0.014)),
    Scenario("null, seed x schedule, grids flat, two seeds", seeds=2, worth=flat,
             penalties=(0.0, 0.0), luck=Luck(0.02, 0.02, by_schedule=0.014)),
    Scenario("null, seed x schedule, allocations", worth=flat, allocations=(0.5, 1.0),
             luck=Luck(0.02, 0.02, by_schedule=0.014)),
)  # fmt: skip
PARTS = {"tuning": TUNING, "held-out": HELD_OUT, "fresh": FRESH}
