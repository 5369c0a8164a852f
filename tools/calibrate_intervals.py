"""Do 90 % intervals hold the truth 90 % of the time? Simulated sweeps with a known truth say.

    python tools/calibrate_intervals.py --studies=150 --half=held-out

Every study is a sweep of records that goes through `analyse` and `recommend` as a real one does.
Scenarios leave the family of curves and noise that the analysis assumes: bent and broken laws, the
authors' published points, four to six budgets, two to five seeds and one, noise that goes with the
budget or with replay, uneven noise, outliers, missing runs, and sweeps in which only the allocation
or nothing at all helps. They are in two halves: settings were chosen on the "tuning" one only.

One JSON line per scenario: the share of studies whose interval holds the truth, for the recommended
multiplier and gain, for every multiplier, gain, equivalent amount and generic cost printed, and for
the replay fraction; the share in which no multiplier was named; verdicts; `false` is the share of
verdicts that are wrong ("replay helps" where it does not, or the other way). Fits of published
points alone (as `replay-jax fit` does) are in tests/analysis/test_misfit.py.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.analysis.advice.recommend import Recommendation, recommend
from replay_jax.analysis.advice.verdict import HELPS, HURTS
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.statistics.simulate import Luck, law, sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.records import AnalysisConfig
from replay_jax.analysis.study.study import CellResult, TargetStudy

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


def real(scale: float = 1.0) -> Luck:
    """What the quickstart's records say of its noise."""
    return Luck(0.017 * scale, 0.027 * scale, 0.029 * scale, 0.025 * scale)


# Names may repeat between the halves; numbers do not.
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
)  # fmt: skip
HALVES = {"tuning": TUNING, "held-out": HELD_OUT}


class Tally:
    """How often each kind of interval held the truth, of how many with two ends or one."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()

    def add(self, name: str, found: Interval | None, truth: float) -> None:
        """Count one interval; one that names nothing is counted as refused."""
        if found is None or found.value is None:
            self.seen[f"{name} refused"] += 1
            return
        low = -math.inf if found.low is None else found.low
        high = math.inf if found.high is None else found.high
        self.seen[name] += 1
        slack = 1e-9 * max(1.0, abs(truth))  # rounding
        self.held[name] += low - slack <= truth <= high + slack

    def shares(self) -> dict[str, float]:
        """Share that held, by kind."""
        return {k: round(self.held[k] / n, 3) for k, n in self.seen.items() if "refused" not in k}


def judge(scenario: Scenario, study: TargetStudy, found: Recommendation, tally: Tally) -> bool:
    """Count everything that a study prints; return whether its verdict is wrong."""
    cells, worth = study.cells, scenario.equivalent

    def gain(better: CellResult, other: CellResult) -> float:
        return scenario.curve(worth(other)) - scenario.curve(worth(better))

    best, rival, usual = (cells[i] for i in (found.best, found.baseline, found.usual.against))
    tally.add("recommended multiplier", found.multiplier, worth(best) / worth(rival))
    tally.add("recommended gain", found.gain, gain(best, rival))
    tally.add("usual multiplier", found.usual.multiplier, worth(best) / worth(usual))
    truths = {rho: scenario.worth(rho) for rho in scenario.rhos}
    rho = [r for r, value in truths.items() if value == max(truths.values())]
    if len(rho) == 1:
        tally.add("rho", found.replay_fraction, rho[0])
    for cell in cells:
        if not cell.is_reference:
            tally.add("amount", cell.equivalent_tokens, worth(cell))
        if cell.gain is not None and cell.baseline is not None:
            other = cells[cell.baseline]
            tally.add("multiplier", cell.multiplier, worth(cell) / worth(other))
            tally.add("gain", cell.gain, gain(cell, other))
            if cell.key.protocol != "uniform":
                tally.add("generic cost", cell.generic_cost, -0.6 * cell.key.replay_fraction)
    for control in study.controls:
        pair = cells[control.cell], cells[control.constant]
        tally.add("control", control.difference, -gain(*pair))
    others = [c for c in cells if c.key.target_tokens == BUDGET and (
        c.key.protocol == "uniform" or c.key.replay_fraction == 0)]  # fmt: skip
    true_gain = max(worth(c) for c in cells if c.key.replay_fraction > 0) - max(map(worth, others))
    wrong = {HELPS: true_gain <= 1e-9, HURTS: true_gain >= -1e-9}
    return found.verdict in wrong and wrong[found.verdict]


def measure(scenario: Scenario, studies: int, resamples: int, seed: int) -> dict[str, Any]:
    """One line of the outcome."""
    tally, verdicts, wrong = Tally(), Counter[str](), 0
    for draw in range(seed, seed + studies):
        config = REFERENCES[scenario.reference]
        study = analyse(scenario.records(draw), config, resamples=resamples, seed=draw)
        found = recommend(study)
        verdicts[found.verdict] += 1
        wrong += judge(scenario, study.target(), found, tally)
    refused = tally.seen["recommended multiplier refused"] / studies
    return {
        "scenario": scenario.name,
        "seeds": scenario.seeds,
        "budgets": len(scenario.budgets),
        "studies": studies,
        **tally.shares(),
        "refused": round(refused, 3),
        "verdicts": {name: round(n / studies, 3) for name, n in verdicts.items()},
        "false": round(wrong / studies, 3),
    }


def _line(place: tuple[str, int], studies: int, resamples: int, seed: int) -> dict[str, Any]:
    half, index = place
    return {"half": half, **measure(HALVES[half][index], studies, resamples, seed + 10_000 * index)}


def main() -> None:
    """Simulate the scenarios of one half or both and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=150)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--half", choices=[*HALVES, "both"], default="both")
    arguments = parser.parse_args()
    halves = list(HALVES) if arguments.half == "both" else [arguments.half]
    places = [(half, index) for half in halves for index in range(len(HALVES[half]))]
    sizes = arguments.studies, arguments.resamples, arguments.seed
    with ProcessPoolExecutor(arguments.processes) as pool:
        for job in [pool.submit(_line, place, *sizes) for place in places]:
            print(json.dumps(job.result()), flush=True)


if __name__ == "__main__":
    main()
