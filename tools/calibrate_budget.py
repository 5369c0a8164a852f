"""Does a budgeted study say what its full grid says, and do its intervals hold the truth?

    python tools/calibrate_budget.py --studies=100 --out=budget.jsonl

Every study is a simulated sweep whose truth is known. The rule of `run --budget`
(replay_jax/analysis/budget) draws from it, with half of the grid's train steps as its limit and a
verdict as its goal; beside it the whole grid is analysed. Scenarios are the quickstart's own grid
with the costs of its real plan, its curve and its noise, and some of calibration_scenarios.py.
--out has one JSON line per study and is gone on with, as in calibrate_intervals.py.

Printed is one JSON line per scenario: the share of studies whose verdicts agree with the grid's
(`agree`: the answer acted on; `opposite`: one helps, one does not), steps over the grid's, the
median of the ratio of widths (of ln multiplier, or of the gain where either is unbounded), the
share of 90 % intervals of the recommended gain and multiplier that hold the truth, the share of
wrong verdicts of both, and how studies ended.
"""

# ruff: noqa: E402
import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"

import argparse
import functools
import hashlib
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import calibration_scenarios
import numpy as np
from calibrate_intervals import APART, ROOT, _add, kept_lines
from calibration_scenarios import PARTS, REFERENCES

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.advice.verdict import HELPS, HURTS
from replay_jax.analysis.budget.goal import Goal, find
from replay_jax.analysis.budget.planned import Path as Spans
from replay_jax.analysis.budget.planned import grid_of
from replay_jax.analysis.budget.rule import Decision, Rules, decide
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.statistics.simulate import record
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.study import CellResult, TargetStudy

Record = dict[str, Any]
STEPS, ROWS, ROW_TOKENS = 512, 32, 128  # of simulated runs
LEVEL = 0.9


@dataclass(frozen=True)
class Study:
    """One kind of study: records and costs of its grid by draw, and what its cells are worth.

    loss: true target loss of a cell at its best setting, nats; worth: the same in target tokens.
    """

    name: str
    config: AnalysisConfig
    records: Callable[[int], list[Record]]
    paths: Callable[[Sequence[Record]], Mapping[str, Spans]]
    worth: Callable[[CellResult], float]
    loss: Callable[[CellResult], float]


# The quickstart's question: its own grid, plan, curve (.383 nat for e times the data) and noise.
SLOPE, AT_4096 = 0.383, 4.06
BEST_WITHOUT = {2048: 48.0, 3072: 32.0, 4096: 24.0, 6144: 24.0, 8192: 16.0, 16384: 16.0}
BEST_WITH = {2048: 32.0, 4096: 24.0}
SEED, SEED_BUDGET, SEED_PROTOCOL, RUN = 0.077, 0.017, 0.009, 0.019


@functools.cache
def quickstart_plan() -> tuple[list[tuple[Mapping[str, Any], Spans]], float]:
    """Overrides and spans of the quickstart's runs."""
    import replay_jax

    plan = replay_jax.plan(replay_jax.load_recipe("quickstart"))
    runs = [
        (dict(run.overrides), tuple((e.stop.digest, float(e.steps)) for e in path))
        for run, path in zip(plan.runs, plan.paths, strict=True)
    ]
    return runs, float(plan.steps_planned)


def quickstart(name: str, worth: Callable[[float], float], unlike: float = 0.0) -> Study:
    """The quickstart with another worth of replay; `unlike` moves the best epochs (powers of 2)."""

    def tokens_worth(cell: CellResult) -> float:
        return cell.key.target_tokens * worth(cell.key.replay_fraction)

    return Study(
        name,
        AnalysisConfig({"replay_fraction": 0.0}, ("schedule.target_epochs",), LEVEL),
        functools.partial(_quickstart_records, worth, unlike),
        lambda records: {
            r["id"]: spans for r, (_, spans) in zip(records, quickstart_plan()[0], strict=True)
        },
        tokens_worth,
        lambda cell: _line(tokens_worth(cell)),
    )


def _line(tokens: float) -> float:
    return AT_4096 - SLOPE * math.log(tokens / 4096)


def _quickstart_records(worth: Callable[[float], float], unlike: float, draw: int) -> list[Record]:
    rng = np.random.default_rng(draw)
    seeds: dict[Any, float] = {}

    def shared(key: Any, deviation: float) -> float:
        if key not in seeds:
            seeds[key] = float(deviation * rng.standard_normal())
        return seeds[key]

    records = []
    for overrides, _ in quickstart_plan()[0]:
        rho, epochs = overrides["schedule.replay_fraction"], overrides["schedule.target_epochs"]
        tokens = overrides["schedule.target_sequences"] * ROW_TOKENS
        seed = overrides["seed"]
        best = (BEST_WITH if rho else BEST_WITHOUT)[tokens] * 2**unlike
        luck = shared(seed, SEED) + shared((seed, tokens), SEED_BUDGET)
        luck += shared((seed, rho > 0), SEED_PROTOCOL) + RUN * rng.standard_normal()
        loss = _line(tokens * worth(rho)) + 0.12 * math.log2(epochs / best) ** 2
        records.append(
            record(
                replay_fraction=rho,
                target_tokens=tokens,
                target_epochs=epochs,
                seed=seed,
                target_loss=loss + luck,
                generic_loss=4.0 - 0.6 * rho + RUN * rng.standard_normal(),
            )
        )
    return records


def simulated(part: str, name: str) -> Study:
    """A scenario of calibration_scenarios.py, with the costs of two-stage runs of its sizes."""
    scenario = next(each for each in PARTS[part] if each.name == name)
    return Study(
        name,
        REFERENCES[scenario.reference],
        scenario.records,
        _paths,
        scenario.equivalent,
        lambda cell: scenario.curve(scenario.equivalent(cell)),
    )


def _paths(records: Sequence[Record]) -> dict[str, Spans]:
    """A trunk of generic data for each seed up to where stage 2 begins; else nothing shared."""
    starts = {r["id"]: _start(r) for r in records}
    cuts = sorted({0, *starts.values()})
    paths: dict[str, Spans] = {}
    for r in records:
        id, seed = r["id"], r["seed"]
        trunk = tuple(
            ((seed, stop), float(stop - start))
            for start, stop in zip(cuts, cuts[1:], strict=False)
            if stop <= starts[id]
        )
        paths[id] = (*trunk, ((id, STEPS), float(STEPS - starts[id])))
    return paths


def _start(r: Record) -> int:
    """The step at which a run's target rows begin."""
    if r["protocol"] == "uniform" or r["allocation"]["realised"] < 1:
        return 0
    rows = r["target_tokens"] / ROW_TOKENS * r["target_epochs"]
    stage = rows / (1 - r["replay_fraction"]["realised"]) / ROWS
    return max(0, STEPS - math.ceil(stage))


STUDIES = (
    quickstart("quickstart as measured", lambda rho: 1 + 1.0 * rho if rho <= 0.8 else 1.7),
    quickstart("quickstart, null", lambda rho: 1.0),
    quickstart("quickstart, worth 1.2", lambda rho: 1 + 0.27 * rho if rho <= 0.8 else 1.19),
    quickstart("quickstart, replay hurts", lambda rho: 1 - 0.5 * rho),
    quickstart("quickstart, best epochs elsewhere", lambda rho: 1 + 0.9 * min(rho, 0.8), 0.5),
    simulated("tuning", "in family"),
    simulated("held-out", "in family, six budgets, five seeds"),
    simulated("tuning", "StarCoder's points"),
    simulated("held-out", "the quickstart's noise, alpha"),
    simulated("tuning", "null, seed x replay"),
    simulated("held-out", "null, the quickstart's noise"),
    simulated("held-out", "null, flat grid with replay only"),
    simulated("tuning", "null, flat grid without replay only"),
)  # fmt: skip


def one_study(index: int, draw: int, resamples: int, share: float) -> Record:
    """One simulated sweep under the rule, and its whole grid."""
    study, begun = STUDIES[index], time.process_time()
    records = study.records(draw)
    paths = study.paths(records)
    grid = grid_of(records, study.config, paths)
    whole = grid.cost(paths)
    goal = Goal("verdict")
    rules = Rules(
        lambda known: share * whole,
        functools.partial(
            find, config=study.config, goal=goal, questions=len(grid.questions), resamples=resamples
        ),
        goal.words,
    )
    by_id = {r["id"]: r for r in records}
    decision = decide(grid, by_id, failed=(), rules=rules)
    own = _said(study, [by_id[run] for run in decision.compared], draw, resamples)
    full = _said(study, records, draw, resamples)
    return {
        "index": index,
        "draw": draw,
        **_outcome(decision, grid.cost(decision.runs) / whole),
        **_compared(own, full),
        **_truth(study, own, "own"),
        **_truth(study, full, "full"),
        "seconds": round(time.process_time() - begun, 3),
    }


Said = tuple[TargetStudy, Recommendation]


def _said(study: Study, records: Sequence[Record], draw: int, resamples: int) -> Said:
    found = analyse(records, study.config, resamples=resamples, seed=draw)
    return found.target(), recommend_every_group(found, found.target().target)[0]


def _outcome(decision: Decision, steps: float) -> Record:
    return {"ended": decision.ended, "looks": len(decision.looks), "steps": steps}


def _compared(own: Said, full: Said) -> Record:
    mine, other = own[1].verdict, full[1].verdict
    return {
        "agree": mine == other,
        "opposite": {mine, other} == {HELPS, HURTS},
        "verdict": mine,
        "of_grid": other,
        "width": _width(own[1]) / _width(full[1]),
    }


def _width(answer: Recommendation) -> float:
    gain = answer.gain
    assert gain.low is not None and gain.high is not None
    return gain.high - gain.low


def _truth(study: Study, said: Said, who: str) -> Record:
    """Whether the recommended gain and multiplier hold the truth, and the verdict is right."""
    found, answer = said
    best, rival = (found.cells[i] for i in (answer.best, answer.baseline))
    gain = study.loss(rival) - study.loss(best)
    wrong = {HELPS: gain <= 1e-9, HURTS: gain >= -1e-9}
    return {
        f"{who} gain": _holds(answer.gain, gain),
        f"{who} multiplier": _holds(answer.multiplier, study.worth(best) / study.worth(rival)),
        f"{who} false": wrong.get(answer.verdict, False),
    }


def _holds(found: Interval | None, truth: float) -> bool | None:
    """None where nothing is named."""
    if found is None or found.value is None:
        return None
    low = -math.inf if found.low is None else found.low
    high = math.inf if found.high is None else found.high
    return low - 1e-9 <= truth <= high + 1e-9


def summary(index: int, lines: Sequence[Record]) -> Record:
    """One line of the outcome from the lines of a scenario's studies."""

    def share(name: str) -> float:
        known = [line[name] for line in lines if line[name] is not None]
        return round(sum(known) / len(known), 3)

    told = ("agree", "opposite", "steps", "looks", "own gain", "own multiplier", "full gain",
            "full multiplier", "own false", "full false")  # fmt: skip
    return {
        "scenario": STUDIES[index].name,
        "studies": len(lines),
        **{name: share(name) for name in told},
        "width": round(float(np.median([line["width"] for line in lines])), 3),
        "ended": dict(Counter(line["ended"] for line in lines)),
        "verdicts": dict(Counter(line["verdict"] for line in lines)),
        "of_grid": dict(Counter(line["of_grid"] for line in lines)),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
    }


def digest() -> str:
    """Which code the lines come out of."""
    files = sorted((ROOT / "replay_jax" / "analysis").rglob("*.py"))
    files += [Path(__file__), Path(calibration_scenarios.__file__)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def main() -> None:
    """Simulate the scenarios and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--share", type=float, default=0.5, help="of the grid's steps")
    parser.add_argument("--scenario", default="", help="only those whose name has this (a pattern)")
    parser.add_argument("--out", type=Path, help="a JSON lines file to go on with")
    arguments = parser.parse_args()
    code = f"{digest()} {arguments.share:g}"
    old = kept_lines(arguments.out, code, arguments.resamples)
    done = {(line["index"], line["draw"]): line for line in old}
    wanted = [n for n, study in enumerate(STUDIES) if re.search(arguments.scenario, study.name)]
    # A study of every scenario before the second of any: what is interrupted is even.
    places = [(n, APART * n + study) for study in range(arguments.studies) for n in wanted]
    for place in places:
        if place not in done:
            line = one_study(*place, arguments.resamples, arguments.share)
            done[place] = {**line, "code": code, "resamples": arguments.resamples}
            _add(arguments.out, [done[place]])
    for index in wanted:
        lines = [done[place] for place in places if place[0] == index]
        print(json.dumps(summary(index, lines)), flush=True)


if __name__ == "__main__":
    main()
