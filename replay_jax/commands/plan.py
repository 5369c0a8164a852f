"""Commands before anything is trained: plan and prepare."""

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe, parse_overrides
from replay_jax.data.ledger.planned import Entry
from replay_jax.library.planning import plan as plan_recipe
from replay_jax.library.preparing import preparation_shown, prepare_all, print_prepared
from replay_jax.sweep.drive.drawing import print_plan
from replay_jax.sweep.plan.objective import target_shares
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.run import Run

# Share of the matrix-multiply peak that whole sweeps of small and large models reached on CPU
# (measured in docs/performance.md); only used to say how long a sweep may take.
ASSUMED_FRACTION_OF_PEAK = 0.3
_SIDE, _PRODUCTS = 1024, 8


def plan(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Show what a sweep would do; data that is prepared is used, and none is touched otherwise."""
    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    planned = plan_recipe(recipe, arguments.workdir)
    if arguments.json:
        print(json.dumps(planned.to_json()))
    else:
        console = Console()
        _print_ledgers(planned, console)
        print_plan(planned, console)
        _print_estimate(planned, console)
    return 0


def prepare(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Tokenize all sources of a config and fetch its models; what is there is left alone."""
    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    console = Console()
    with preparation_shown(console) as progress:
        prepared = prepare_all(configs_of(experiments_of(recipe)), progress)
    print_prepared(prepared)
    return 0


def _print_ledgers(plan: Plan, console: Console) -> None:
    """One line per run: what was asked for, what the integers give, unique and repeated rows."""
    table = Table(
        "run", "rho", "alpha", "epochs", "target rows", "unique", "generic rows", "unique",
        title="ledger (requested → realised where they differ; rows are sequences)",
        title_justify="left",
        box=None,
    )  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for run in plan.runs:
        table.add_row(*_cells(run))
    console.print(table)
    _print_supervised(plan, console)


def _print_supervised(plan: Plan, console: Console) -> None:
    """Where not all labels count in the loss: how many do, and what that makes of the target's
    share; nothing where all do."""
    masked = {
        name
        for run in plan.runs
        for name, source in run.config.data.sources
        if source.masked and name in run.views
    }
    if not masked:
        return
    table = Table(
        "run", "objective", "of the budget", "target labels", "generic labels",
        "stage", "of rows", "of the loss",
        title="labels that count in the loss, and the target's share in each stage",
        title_justify="left",
        box=None,
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for run in plan.runs:
        for line in _supervised_cells(run):
            table.add_row(*line)
    console.print(table)
    names = ", ".join(sorted(masked))
    console.print(f"held-out losses of {names} are nats per label that counts", highlight=False)


def _supervised_cells(run: Run) -> Iterator[tuple[str, ...]]:
    by_name = {entry.source: entry.supervised for entry in run.ledger.totals}
    target, generic = run.schedule.target, run.schedule.generics
    is_masked = dict(run.config.data.sources)[target].masked
    counts = [_counted(run.views[target].budget_labels) if is_masked else "all"]
    counts.append(_counted(by_name[target]))
    counts.append(" + ".join(_counted(by_name[name]) for name in generic))
    said = [run.name, run.config.training.objective, *counts]
    for stage in run.ledger.stages:
        shares = target_shares(stage.entries, target, run.loss_weights)
        shown = ("unknown", "unknown") if shares is None else (f"{s:.4g}" for s in shares)
        yield (*said, stage.name, *shown)
        said = [""] * len(said)


def _counted(labels: int | None) -> str:
    return "unknown" if labels is None else f"{labels:,}"


def _print_estimate(plan: Plan, console: Console) -> None:
    """Time of what remains on this machine's cores, from NumPy's matrix product.

    NumPy's, because a plan is made without starting JAX; an accelerator is not counted.
    """
    peak = _matmul_rate()
    totals = plan.to_json()["totals"]
    rate = ASSUMED_FRACTION_OF_PEAK * peak
    training, measuring = (
        float(totals[key]) / rate for key in ("flops_remaining", "evaluation_flops_remaining")
    )
    console.print(
        f"about {_duration(training)} of training and {_duration(measuring)} of held-out losses on "
        f"this machine's cores, at {ASSUMED_FRACTION_OF_PEAK:.0%} of NumPy's matrix product of "
        f"{peak / 1e9:,.0f} GFLOP/s",
        highlight=False,
    )


def _matmul_rate() -> float:
    """FLOP per second of a square product in float32: the median of several, after a first."""
    left = np.ones((_SIDE, _SIDE), np.float32)
    seconds = []
    for _ in range(_PRODUCTS):
        start = time.perf_counter()
        left @ left
        seconds.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / statistics.median(seconds[1:])


def _cells(run: Run) -> tuple[str, ...]:
    requested, realised = run.ledger.requested, run.ledger.realised
    assert realised is not None
    entries = {entry.source: entry for entry in run.ledger.totals}
    target = entries[run.schedule.target]
    generic = [entries[name] for name in run.schedule.generics]
    return (
        run.name,
        _pair(requested.replay_fraction, realised.replay_fraction),
        _pair(requested.stage2_allocation, realised.stage2_allocation),
        _pair(requested.target_epochs, realised.target_epochs),
        f"{target.sequences:,}",
        _unique([target]),
        " + ".join(f"{entry.sequences:,}" for entry in generic),
        _unique(generic),
    )


def _pair(requested: float | None, realised: float | None) -> str:
    shown = "–" if realised is None else f"{realised:.4g}"
    asked = "–" if requested is None else f"{requested:.4g}"
    return shown if asked == shown or requested is None else f"{asked} → {shown}"


def _unique(entries: Sequence[Entry]) -> str:
    return " + ".join("unknown" if e.unique is None else f"{e.unique:,}" for e in entries)


def _duration(seconds: float) -> str:
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
