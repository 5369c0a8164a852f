"""Commands that look at numbers rather than at a sweep: fit, bench, compile."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from replay_jax.analysis.statistics.points import FitResult, fit_points
from replay_jax.errors import UserError

if TYPE_CHECKING:
    from replay_jax.compile.fitting import Beside
    from replay_jax.config.experiment import ExperimentConfig
    from replay_jax.training.step import StepShape

_MANY_POINTS = 30


def fit(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Fit reference points, invert the candidates and print ratios with intervals."""
    points = read_points(Path(os.path.expanduser(arguments.points)))
    _say_that_it_takes_long(points)
    result = fit_points(points)
    if arguments.json:
        print(json.dumps(result.to_json(), indent=1, allow_nan=False))
    else:
        _print_fit(result)
    return 0


def read_points(path: Path) -> Any:
    """What a JSON file holds; raises UserError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no JSON, no text, nested without end
        raise UserError(f"{path} is not JSON: {error}") from error


def _say_that_it_takes_long(points: Any) -> None:
    """A sign of life where fitting takes minutes: its time grows with the square of the points."""
    reference = points.get("reference") if isinstance(points, dict) else None
    x = reference.get("x") if isinstance(reference, dict) else None
    if isinstance(x, list) and len(x) >= _MANY_POINTS and points.get("law") is None:
        print(
            f"choosing a law for {len(x)} reference points by leaving out each of them in turn: "
            'this may take minutes ("law": "power" in the file takes one as given)',
            file=sys.stderr,
        )


def bench(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Time the real train step on this machine's devices, or a population of them."""
    from replay_jax.compile.bench import bench as run_bench
    from replay_jax.compile.bench import bench_population
    from replay_jax.config.defaults import sized_model

    sizes = arguments.model or arguments.shape
    if sizes is None:
        raise UserError("name what to time: --model=150m, or --shape=256,896,8,4,4,8192")
    model, seq_len, batch_size = sized_model(sizes), arguments.seq_len, arguments.batch
    values = dataclasses.asdict(
        run_bench(model, seq_len=seq_len, batch_size=batch_size)
        if arguments.population is None
        else bench_population(
            model, seq_len=seq_len, batch_size=batch_size, lanes=arguments.population
        )
    )
    if arguments.json:
        print(json.dumps(values))
    else:
        _print_values(f"train step of {sizes}, {batch_size} x {seq_len}", values)
    return 0


def compile(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Compile the real train step of a config for TPUs, GPUs or this machine.

    What does not fit is a mistake, whose sentence names the nearest batch that does: it is found by
    compiling, which takes as long again for every batch that is tried.
    """
    from replay_jax.commands.compiled import report_lines
    from replay_jax.compile import ahead as aot
    from replay_jax.compile import search as aot_search
    from replay_jax.config.experiment import resolve
    from replay_jax.config.recipe import load_recipe, override, parse_overrides

    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    plain = recipe.base
    for key, value in recipe.sweep[0].items():
        plain = override(plain, key, value)
    config = resolve(plain)
    shape, beside = _programs(config)
    asked = {"topology": arguments.topology, "beside": beside}
    if arguments.search:
        reports = aot_search.search(shape, config.mesh, **asked)
    else:
        reports = [aot.compile_report(shape, config.mesh, **asked)]
    if arguments.json:
        print(
            json.dumps([r.to_json() for r in reports] if arguments.search else reports[0].to_json())
        )
    else:
        print(
            "\n\n".join(f"{recipe.name} on {report_lines(report)}" for report in reports),
            flush=True,
        )
        if len(reports) > 1:
            print(f"\n{aot_search.fastest(reports)}")
    if not reports[0].fits:
        print("it does not fit; trying fewer rows at once", file=sys.stderr)
        fitting = aot_search.nearest_fit(shape, config.mesh, **asked)
        raise UserError(aot_search.misfit(reports[0], fitting))
    return 0


def _programs(config: "ExperimentConfig") -> "tuple[StepShape, Beside]":
    """The shape of a run's train step, and what is compiled beside it."""
    from replay_jax.compile.fitting import Beside
    from replay_jax.schedule.protocols import build_schedule
    from replay_jax.training.step import StepShape

    schedule = build_schedule(
        config.schedule,
        batch_size=config.training.batch_size,
        generic=config.data.generic,
        target=config.data.target,
    )
    shape = StepShape(
        model=config.model,
        batch_size=config.training.batch_size,
        seq_len=config.training.seq_len,
        sources=len(schedule.source_names),
        accumulation=config.training.accumulation,
        document_mask=config.training.document_mask,
        optimizer=config.optimizer.kind,
        dropout=config.training.dropout,
    )
    cosine = schedule.stage_starts[-1] >= config.training.batch_size
    evaluated, lanes = config.evaluation.batch_size, config.execution.population
    average = config.training.average_last > 0
    return shape, Beside(evaluated, lanes, cosine=cosine, average=average)


def _print_fit(result: FitResult) -> None:
    console = Console()
    values = result.to_json()
    law = values["law"]
    console.print(f"reference law: {law['formula']}", highlight=False)
    console.print(law["why"] or "its parameters are well posed", highlight=False)
    table = Table("", "value", f"{result.level:.0%} interval", "")
    for column in table.columns:
        column.overflow = "fold"
    for label, found in (*result.equivalent_x.items(), *result.ratios.items()):
        interval = f"{_short(found.low)} to {_short(found.high)}"
        table.add_row(label, _short(found.value), interval, "extrapolated" * found.extrapolated)
    console.print(table)
    for note in values["notes"]:
        console.print(note, highlight=False)


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _print_values(title: str, values: dict[str, Any]) -> None:
    table = Table(title=title, show_header=False)
    for name in ("key", "value"):
        table.add_column(name, overflow="fold")
    for key, value in values.items():
        shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), f"{value:,}" if type(value) is int else shown)
    Console().print(table)
