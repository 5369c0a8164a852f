"""Does the second opinion hold the truth as often as it says? Simulated sweeps with a known truth.

    python tools/calibrate_opinion.py --studies=25 --out=opinion.jsonl

Every study is a sweep of records (replay_jax/analysis/statistics/simulate.py) that goes through
`analyse`, `recommend` and the Bayesian fit; half of them have a replay fraction that helps, half
none. --out has one JSON line per study and is added to: what it holds is not done again.

Printed is one JSON line per kind: the share of 90 % intervals that hold the true gain and the true
multiplier of the recommended schedule over its rival, those of the first analysis beside them, how
often the posterior is surer than 95 % that the gain is above zero, the largest R-hat, divergences,
how often the two analyses contradict each other, and CPU seconds a study. Needs the extra `bayes`.
"""

# ruff: noqa: E402
import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import argparse
import json
import time
from pathlib import Path
from typing import Any

from calibrate_intervals import Tally
from calibration_scenarios import FOUR, REFERENCES, Scenario, flat, helps

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.bayes.second import with_opinions
from replay_jax.analysis.statistics.simulate import Luck
from replay_jax.analysis.study.analyse import analyse

LUCK = Luck(0.02, 0.03, by_budget=0.015, by_protocol=0.01)
KINDS = {
    "helps": Scenario("helps", luck=LUCK, budgets=FOUR, rhos=(0.0, 0.5, 0.75), worth=helps),
    "null": Scenario("null", luck=LUCK, budgets=FOUR, rhos=(0.0, 0.5, 0.75), worth=flat),
}


def one_study(kind: str, draw: int, samples: int) -> dict[str, Any]:
    """One simulated sweep: what both analyses held."""
    scenario = KINDS[kind]
    begun = time.process_time()
    study = analyse(scenario.records(draw), REFERENCES["uniform"], resamples=400, seed=draw)
    found = recommend(study)
    target = study.target()
    (told,) = with_opinions(target, (found,), samples=samples, warmup=samples, seed=draw)
    opinion = told.opinion
    assert opinion is not None
    own, rival = (scenario.equivalent(target.cells[i]) for i in (found.best, found.baseline))
    tally = Tally()
    gain = scenario.curve(rival) - scenario.curve(own)
    for name, interval, truth in (
        ("gain", opinion.gain, gain),
        ("multiplier", opinion.multiplier, own / rival),
        ("first gain", found.gain, gain),
        ("first multiplier", found.multiplier, own / rival),
    ):
        tally.add(name, interval, truth)
    return {
        "kind": kind,
        "draw": draw,
        "held": dict(tally.held),
        "seen": dict(tally.seen),
        "above_zero": opinion.helps,
        "r_hat": opinion.sampling.r_hat,
        "divergences": opinion.sampling.divergences,
        "contradicts": told.cautions != found.cautions,
        "seconds": round(time.process_time() - begun, 2),
    }


def summary(kind: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of the outcome."""
    count = len(lines)
    shares = {}
    for name in ("gain", "multiplier", "first gain", "first multiplier"):
        seen = sum(line["seen"].get(name, 0) for line in lines)
        shares[name] = round(sum(line["held"].get(name, 0) for line in lines) / max(seen, 1), 3)
    return {
        "kind": kind,
        "studies": count,
        **shares,
        "surely above zero": round(sum(line["above_zero"] > 0.95 for line in lines) / count, 3),
        "contradict": round(sum(line["contradicts"] for line in lines) / count, 3),
        "largest R-hat": round(max(line["r_hat"] for line in lines), 3),
        "divergences": sum(line["divergences"] for line in lines),
        "seconds": round(sum(line["seconds"] for line in lines) / count, 1),
    }


def main() -> None:
    """Simulate and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=25, help="of each kind")
    parser.add_argument("--samples", type=int, default=200, help="of each chain, and of warmup")
    parser.add_argument("--out", type=Path, required=True, help="a JSON lines file to go on with")
    arguments = parser.parse_args()
    kept = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = {(line["kind"], line["draw"]): line for line in map(json.loads, kept)}
    for draw in range(arguments.studies):
        for kind in KINDS:
            if (kind, draw) not in done:
                done[kind, draw] = one_study(kind, draw, arguments.samples)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(done[kind, draw]) + "\n")
    for kind in KINDS:
        lines = [line for (name, _), line in done.items() if name == kind]
        print(json.dumps(summary(kind, lines)), flush=True)


if __name__ == "__main__":
    main()
