"""Do 90 % intervals hold the truth 90 % of the time? Simulated sweeps with a known truth say.

    python tools/calibrate_intervals.py --studies=150 --part=held-out --out=held_out.jsonl

Every study is a sweep of records (calibration_scenarios.py) that goes through `analyse` and
`recommend` as a real one does. --out has one JSON line per study and is added to: what it holds of
this code is not done again, so an interrupted run goes on, and more studies are only the further
ones. Lines of other code (a digest of the analysis and of this tool) are left and not counted.

Printed is one JSON line per scenario: the share of studies whose interval holds the truth, for the
recommended multiplier and gain, for every multiplier, gain, equivalent amount and generic cost
printed, and for the replay fraction; `needed`, the factor by which the recommended gain's interval
could be narrower (below 1) and hold the truth in 90 %, and `width`, its median in nats; the share
in which no multiplier was named; verdicts; `false` is the share of verdicts that are wrong ("replay
helps" where it does not, or the other way); `side by side`, the recommended gain's interval beside
three that correct for the picks in another way, or not at all (side_by_side.py). Fits of published
points alone (as `replay-jax fit` does) are in tests/analysis/statistics/test_misfit.py.
"""

# ruff: noqa: E402
import os

# Studies are small and many: threads of one would only stand in the way of the next. Libraries read
# this when they are imported.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"

import argparse
import functools
import hashlib
import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from calibration_scenarios import BUDGET, PARTS, REFERENCES, Scenario
from side_by_side import outcome, side_by_side

from replay_jax.analysis.advice.recommend import Recommendation, recommend
from replay_jax.analysis.advice.verdict import HELPS, HURTS
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.study import CellResult, TargetStudy, replays

ROOT = Path(__file__).parents[1]
# Draws of one scenario begin this far after those of the one before it.
APART = 10_000
# Studies of one task of a process: about two seconds, so that an interruption loses little.
CHUNK = 20
_PARTS_OF_THE_TOOL = "calibrate_intervals", "calibration_scenarios", "side_by_side"
Place = tuple[str, int]


class Tally:
    """How often each kind of interval held the truth, of how many with two ends or one."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.reach: dict[str, float] = {}

    def add(self, name: str, found: Interval | None, truth: float) -> None:
        """Count one interval; one without value or without both ends is counted as refused."""
        if found is None or found.value is None or found.low is found.high is None:
            self.seen[f"{name} refused"] += 1
            return
        low = -math.inf if found.low is None else found.low
        high = math.inf if found.high is None else found.high
        self.seen[name] += 1
        slack = 1e-9 * max(1.0, abs(truth))  # rounding
        self.held[name] += low - slack <= truth <= high + slack


def reach(found: Interval | None, truth: float) -> float | None:
    """How far towards the end on its side the truth lies from the value; above 1 it is outside.

    None where the interval has no value or no end there.
    """
    if found is None or found.value is None or truth == found.value:
        return None if found is None or found.value is None else 0.0
    end = found.high if truth > found.value else found.low
    if end is None:
        return None
    return math.inf if end == found.value else (truth - found.value) / (end - found.value)


def true_gain(scenario: Scenario, better: CellResult, other: CellResult) -> float:
    """Target loss of `other` less that of `better`, nats."""
    return scenario.curve(scenario.equivalent(other)) - scenario.curve(scenario.equivalent(better))


def best_gain(scenario: Scenario, study: TargetStudy) -> float:
    """Of what is truly the best that replays over what is truly the best that does not, nats."""
    cells = [cell for cell in study.cells if cell.key.target_tokens == BUDGET]
    replaying = [cell for cell in cells if replays(cell)]
    others = [cell for cell in cells if not replays(cell)]
    best, other = (max(each, key=scenario.equivalent) for each in (replaying, others))
    return true_gain(scenario, best, other)


def judge(scenario: Scenario, study: TargetStudy, found: Recommendation, tally: Tally) -> bool:
    """Count everything that a study prints; return whether its verdict is wrong."""
    cells, worth = study.cells, scenario.equivalent
    gain = functools.partial(true_gain, scenario)
    best, rival, usual = (cells[i] for i in (found.best, found.baseline, found.usual.against))
    tally.add("recommended multiplier", found.multiplier, worth(best) / worth(rival))
    tally.add("recommended gain", found.gain, gain(best, rival))
    far = reach(found.gain, gain(best, rival))
    if far is not None:
        tally.reach["recommended gain"] = round(far, 4)
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
    true = best_gain(scenario, study)
    wrong = {HELPS: true <= 1e-9, HURTS: true >= -1e-9}
    return found.verdict in wrong and wrong[found.verdict]


def one_study(place: Place, draw: int, resamples: int) -> dict[str, Any]:
    """One simulated sweep: what its intervals held, and what was said."""
    part, index = place
    scenario: Scenario = PARTS[part][index]
    begun = time.process_time()
    tally = Tally()
    config = REFERENCES[scenario.reference]
    study = analyse(scenario.records(draw), config, resamples=resamples, seed=draw)
    found = recommend(study)
    wrong = judge(scenario, study.target(), found, tally)
    picked = (study.target().cells[i] for i in (found.best, found.baseline))
    truths = true_gain(scenario, *picked), best_gain(scenario, study.target())
    return {
        "part": part,
        "index": index,
        "scenario": scenario.name,
        "draw": draw,
        "held": dict(tally.held),
        "seen": dict(tally.seen),
        "reach": tally.reach,
        "width": _width(found.gain),
        "verdict": found.verdict,
        "false": bool(wrong),
        "side by side": side_by_side(study.target(), found),
        "truths": truths,
        "law": None if (curve := study.target().curve) is None else curve.name,
        "seconds": round(time.process_time() - begun, 3),
    }


def summary(place: Place, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line of the outcome from the lines of a scenario's studies."""
    scenario = PARTS[place[0]][place[1]]
    held, seen = Counter[str](), Counter[str]()
    for line in lines:
        held.update(line["held"])
        seen.update(line["seen"])
    verdicts = Counter(line["verdict"] for line in lines)
    studies = len(lines)
    return {
        "part": place[0],
        "scenario": scenario.name,
        "seeds": scenario.seeds,
        "budgets": len(scenario.budgets),
        "studies": studies,
        **{k: round(held[k] / n, 3) for k, n in seen.items() if not k.endswith(" refused")},
        "needed": _needed([line["reach"] for line in lines]),
        "width": _median([line["width"] for line in lines if line["width"] is not None]),
        "refused": round(seen["recommended multiplier refused"] / studies, 3),
        "verdicts": {name: round(n / studies, 3) for name, n in verdicts.items()},
        "laws": dict(Counter(str(line["law"]) for line in lines)),
        "false": round(sum(line["false"] for line in lines) / studies, 3),
        "side by side": outcome(
            [line["side by side"] for line in lines], [line["truths"] for line in lines]
        ),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
    }


def _width(found: Interval) -> float | None:
    return None if found.low is None or found.high is None else round(found.high - found.low, 5)


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 4) if values else None


def _needed(reaches: Sequence[dict[str, float]]) -> float | None:
    """By what factor the recommended gain's interval would hold the truth in just 90 %."""
    found = sorted(each["recommended gain"] for each in reaches if each)
    return found[math.ceil(0.9 * len(found)) - 1] if found else None


def digest() -> str:
    """Which code the lines come out of."""
    files = sorted((ROOT / "replay_jax" / "analysis").rglob("*.py"))
    files += [Path(__file__).parent / f"{name}.py" for name in _PARTS_OF_THE_TOOL]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def kept_lines(path: Path | None, code: str, resamples: int) -> Iterator[dict[str, Any]]:
    """Lines of an earlier call with this code and as many resamples; a torn one is no line."""
    if path is None or not path.exists():
        return
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if (line["code"], line["resamples"]) == (code, resamples):
            yield line


def _chunk(place: Place, draws: Sequence[int], resamples: int) -> list[dict[str, Any]]:
    return [one_study(place, draw, resamples) for draw in draws]


def main() -> None:
    """Simulate the scenarios of one part or all and print what was held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=150)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--scenario", default="", help="only those whose name has these words")
    parser.add_argument("--out", type=Path, help="a JSON lines file to go on with")
    arguments = parser.parse_args()
    parts = list(PARTS) if arguments.part == "all" else [arguments.part]
    places = [
        (part, index)
        for part in parts
        for index, scenario in enumerate(PARTS[part])
        if arguments.scenario in scenario.name
    ]
    done = _simulate(places, arguments)
    for place in places:
        print(json.dumps(summary(place, done[place])), flush=True)


def _simulate(
    places: Sequence[Place], arguments: argparse.Namespace
) -> dict[Place, list[dict[str, Any]]]:
    """Lines of all studies asked for, those that are missing made and added to --out."""
    code, resamples = digest(), arguments.resamples
    done: dict[Place, dict[int, dict[str, Any]]] = {place: {} for place in places}
    wanted = {
        place: range(start, start + arguments.studies)
        for place in places
        for start in [arguments.seed + APART * place[1]]
    }
    for line in kept_lines(arguments.out, code, resamples):
        place = (line["part"], line["index"])
        if place in wanted and line["draw"] in wanted[place]:
            done[place][line["draw"]] = line
    with ProcessPoolExecutor(arguments.processes) as pool:
        jobs = []
        for place, draws in wanted.items():
            left = [draw for draw in draws if draw not in done[place]]
            for start in range(0, len(left), CHUNK):
                jobs.append(pool.submit(_chunk, place, left[start : start + CHUNK], resamples))
        for job in as_completed(jobs):
            lines = [{**line, "code": code, "resamples": resamples} for line in job.result()]
            _add(arguments.out, lines)
            for line in lines:
                done[line["part"], line["index"]][line["draw"]] = line
    return {place: [found[draw] for draw in sorted(found)] for place, found in done.items()}


def _add(path: Path | None, lines: Sequence[dict[str, Any]]) -> None:
    if path is None:
        return
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * torn + "".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
