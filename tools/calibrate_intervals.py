"""Do 90 % intervals on data efficiency cover the truth 90 % of the time? Simulated studies say.

    python tools/calibrate_intervals.py --studies=400 --figure=docs/figures/calibration

Two kinds. Fits: each study draws seed losses around a known law, fits them as `replay-jax fit`
does, and looks whether the interval of the ratio holds the true ratio. Runs of one seed share part
of their noise, as in a real sweep. Beside our intervals stand those of a plain bootstrap, which
resamples the seeds with replacement. Sweeps: records with epochs tuned in every cell go through
`analyse` and `recommend`; grids are steep, shallow (the best epochs are picked by luck), or unlike
(the baseline's steep, the others' flat). There the false alarms count too: how often `recommend`
says "replay helps" where it does nothing. Prints one JSON line per scenario; `--figure` writes
PATH.svg and PATH.png.
"""

import argparse
import json
import math
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from replay_jax.analysis.advice.recommend import recommend
from replay_jax.analysis.advice.wording import HELPS
from replay_jax.analysis.statistics.bootstrap import interval
from replay_jax.analysis.statistics.efficiency import ReferencePoints, fit_reference
from replay_jax.analysis.statistics.points import fit_points
from replay_jax.analysis.statistics.simulate import sweep
from replay_jax.analysis.study.analyse import analyse
from replay_jax.analysis.study.records import AnalysisConfig

REFERENCE_X = np.array([1.0, 2.0, 4.0, 8.0, 16.0]) / 1024
LEVEL = 0.9


def _power(a: float, b: float, c: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: a / x**b + c


LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "well-posed, B = .61": _power(0.0049, 0.612, 3.202),  # the published Flan fit
    "weakly posed, B = .3": _power(0.05, 0.3, 3.0),
    "nearly log-linear, B = .02": _power(10.5, 0.02, -8.5),  # FineMath's slope, .23 nat per e-fold
    "log-linear": lambda x: 2.06 - 0.2294 * np.log(x),
}
PAIRS = {  # true equivalents (candidate, baseline), in units of the smallest reference amount
    "inside": (3.6, 1.8),
    "at the ends": (12.0, 1.0),
    "below the range": (1.2, 0.64),
}


@dataclass(frozen=True)
class Scenario:
    """One kind of study: its law, where the pair lies, how many seeds, how noisy (nats)."""

    law: str
    pair: str
    seeds: int
    own: float
    shared: float
    uneven: bool  # noise four times as large at the smallest amount as at the largest


def simulate(scenario: Scenario, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Losses of reference [5, S] and (candidate, baseline) [2, S] in nats."""
    pair = np.array(PAIRS[scenario.pair]) / 1024
    x = np.concatenate([REFERENCE_X, pair])
    scale = np.full(len(x), scenario.own)
    if scenario.uneven:
        scale *= 2 * np.clip(x / REFERENCE_X[0], 1, 16) ** -0.5
    noise = scale[:, None] * rng.standard_normal((len(x), scenario.seeds))
    losses = LAWS[scenario.law](x)[:, None] + noise
    losses += scenario.shared * rng.standard_normal(scenario.seeds)
    return losses[: len(REFERENCE_X)], losses[len(REFERENCE_X) :]


def our_interval(
    reference: np.ndarray, pair: np.ndarray, *, resamples: int, seed: int
) -> tuple[float, float]:
    """Interval of the ratio by `fit_points`."""
    result = fit_points(
        {
            "reference": {"x": REFERENCE_X.tolist(), "loss": reference.tolist()},
            "candidates": {"candidate": pair[0].tolist(), "baseline": pair[1].tolist()},
            "ratios": {"gain": ["candidate", "baseline"]},
            "level": LEVEL,
        },
        resamples=resamples,
        seed=seed,
    ).ratios["gain"]
    low = 0.0 if result.low is None else result.low
    high = float("inf") if result.high is None else result.high
    return low, high


def plain_interval(
    reference: np.ndarray, pair: np.ndarray, *, resamples: int, seed: int
) -> tuple[float, float]:
    """Interval by resampling the seeds with replacement (paired), law choice included."""
    rng = np.random.default_rng(seed)
    losses = np.concatenate([reference, pair])
    picks = rng.integers(0, losses.shape[1], size=(resamples, losses.shape[1]))
    means = losses[:, picks].mean(axis=2).T
    count = len(reference)
    points = ReferencePoints(REFERENCE_X, reference.mean(axis=1), np.ones(count))
    law = fit_reference(points, means[:, :count], silent_outside=False)
    found = law.log_equivalent(means[:, count:])
    with np.errstate(invalid="ignore"):
        low, high = interval(found[:, 0] - found[:, 1], level=LEVEL)
    return float(np.exp(low)), float(np.exp(high))


def coverage(scenario: Scenario, *, studies: int, resamples: int, seed: int) -> dict[str, float]:
    """Share of studies whose interval holds the true ratio, ours and plain; our median width."""
    truth = PAIRS[scenario.pair][0] / PAIRS[scenario.pair][1]
    ours, plain, width = 0, 0, []
    # One stream per scenario: neighbours must not share their luck.
    key = [seed, list(LAWS).index(scenario.law), list(PAIRS).index(scenario.pair)]
    rng = np.random.default_rng([*key, scenario.seeds, int(scenario.uneven)])
    for _ in range(studies):
        reference, pair = simulate(scenario, rng)
        draw = int(rng.integers(2**31))
        low, high = our_interval(reference, pair, resamples=resamples, seed=draw)
        ours += low <= truth <= high
        width.append(high / low if low > 0 else float("inf"))
        low, high = plain_interval(reference, pair, resamples=resamples, seed=draw)
        plain += low <= truth <= high
    return {
        "ours": ours / studies,
        "plain": plain / studies,
        "width": float(np.median(width)),
    }


def scenarios(noise: float) -> list[Scenario]:
    """Every law, place and number of seeds; uneven noise for the pair inside the range."""
    even = [
        Scenario(law, pair, seeds, noise, noise, uneven=False)
        for law in LAWS
        for pair in PAIRS
        for seeds in (2, 3, 5)
    ]
    uneven = [
        Scenario(law, "inside", seeds, noise, noise, uneven=True)
        for law in LAWS
        for seeds in (3, 5)
    ]
    return even + uneven


GRIDS = {"steep": (0.2, 0.2), "shallow": (0.02, 0.02), "unlike": (0.0, 0.2)}
SWEEP = AnalysisConfig({"protocol": "uniform"}, ("schedule.target_epochs",), LEVEL)


def _worth(rho: float) -> float:
    return 0.8 * math.exp(2 * rho - 2 * rho * rho)


def sweep_coverage(
    grid: str, seeds: int, *, studies: int, resamples: int, noise: float, seed: int
) -> dict[str, float]:
    """Coverage of the multiplier at rho = .5, and false alarms where replay does nothing."""
    others, baseline = GRIDS[grid]
    hits, alarms = 0, 0
    for draw in range(seed, seed + studies):
        for worth in (_worth, lambda rho: 0.8):
            records = sweep(
                worth=worth,
                seeds=range(seeds),
                noise=noise,
                shared=noise,
                epoch_penalty=others,
                baseline_penalty=baseline,
                draw=draw,
            )
            study = analyse(records, SWEEP, resamples=resamples, seed=draw)
            if worth is _worth:
                cell = next(c for c in study.target().cells if c.key.replay_fraction == 0.5)
                assert cell.multiplier is not None
                low, high = cell.multiplier.low or 0.0, cell.multiplier.high or math.inf
                hits += low <= _worth(0.5) / _worth(0) <= high
            else:
                alarms += recommend(study).verdict == HELPS
    return {"ours": hits / studies, "false_alarms": alarms / studies}


def draw_figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Write coverage of fits by scenario as PATH.svg and PATH.png."""
    points = [
        {
            **row,
            "scenario": f"{row['law']}, {row['noise']} noise",
            "method": name,
            "cover": row[key],
        }
        for row in rows
        for name, key in (("ours", "ours"), ("plain bootstrap", "plain"))
    ]
    axis = alt.Scale(domain=[0.4, 1.0], clamp=True)
    band = (
        alt.Chart(alt.Data(values=[{"from": 0.85, "to": 0.95}]))
        .mark_rect(color="#009E73", opacity=0.2)
        .encode(x=alt.X("from:Q", scale=axis), x2="to:Q")
    )
    dots = (
        alt.Chart(alt.Data(values=points))
        .mark_point(filled=True, size=55, opacity=0.85)
        .encode(
            x=alt.X(
                "cover:Q",
                title="share of 90 % intervals that hold the true ratio (band: 85 to 95 %)",
                scale=axis,
            ),
            y=alt.Y("scenario:N", title=None, axis=alt.Axis(labelLimit=260)),
            color=alt.Color(
                "method:N", title="interval", scale=alt.Scale(range=["#0072B2", "#D55E00"])
            ),
            shape=alt.Shape("seeds:O", title="seeds"),
        )
    )
    places = [
        alt.layer(band, dots.transform_filter(f"datum.pair === '{pair}'")).properties(
            title=f"candidate and baseline {pair}", width=520
        )
        for pair in PAIRS
    ]
    chart = alt.vconcat(*places).configure(background="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.save(path.with_suffix(".svg"))
    chart.save(path.with_suffix(".png"), scale_factor=2)


def _fit_row(scenario: Scenario, arguments: argparse.Namespace) -> dict[str, Any]:
    found = coverage(
        scenario, studies=arguments.studies, resamples=arguments.resamples, seed=arguments.seed
    )
    return {
        "kind": "fit",
        "law": scenario.law,
        "pair": scenario.pair,
        "seeds": scenario.seeds,
        "noise": "uneven" if scenario.uneven else "even",
        **found,
    }


def _sweep_row(place: tuple[str, int], arguments: argparse.Namespace) -> dict[str, Any]:
    grid, seeds = place
    found = sweep_coverage(
        grid,
        seeds,
        studies=arguments.studies,
        resamples=arguments.resamples,
        noise=arguments.noise,
        seed=arguments.seed,
    )
    return {"kind": "sweep", "grid": grid, "seeds": seeds, **found}


def main() -> None:
    """Run all scenarios and print (and draw) their coverage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--noise", type=float, default=0.02, help="nats, own and shared alike")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", default="fits,sweeps", help="which of the two to simulate")
    parser.add_argument("--figure", type=Path, help="draw the coverage of fits")
    arguments = parser.parse_args()
    kinds = arguments.kinds.split(",")
    if not kinds or set(kinds) - {"fits", "sweeps"}:
        parser.error(f"--kinds takes fits, sweeps or both, not {arguments.kinds!r}")
    rows = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        places = [(grid, seeds) for grid in GRIDS for seeds in (2, 3, 5)]
        jobs: list[Future[dict[str, Any]]] = []
        if "sweeps" in kinds:
            jobs += [pool.submit(_sweep_row, place, arguments) for place in places]
        if "fits" in kinds:
            jobs += [
                pool.submit(_fit_row, place, arguments) for place in scenarios(arguments.noise)
            ]
        for job in jobs:
            rows.append(job.result())
            print(json.dumps(rows[-1]), flush=True)
    if arguments.figure:
        draw_figure([row for row in rows if row["kind"] == "fit"], arguments.figure)


if __name__ == "__main__":
    main()
