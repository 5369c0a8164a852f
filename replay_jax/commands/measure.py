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
    from replay_jax.compile.ahead import CompileReport

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
    """Compile the real train steps of a config's runs for TPUs, GPUs or this machine.

    Runs share a program unless they differ in model, batch or mesh; every one is compiled once.
    What does not fit is a mistake, whose sentence names the nearest batch that does: it is found by
    compiling, which takes as long again for every batch that is tried.
    """
    from replay_jax.compile import ahead as aot
    from replay_jax.compile import search as aot_search
    from replay_jax.compile.fitting import Beside
    from replay_jax.config.experiments import configs_of, experiments_of
    from replay_jax.config.recipe import load_recipe, parse_overrides
    from replay_jax.sweep.plan.programs import programs_of

    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    programs = programs_of(configs_of(experiments_of(recipe)))
    target = aot.target_of(arguments.topology)
    found: list[list[dict[str, Any]]] = []
    problem = None
    for program in programs:
        beside = Beside(
            program.evaluation_batch, program.lanes, cosine=program.cosine, average=program.average
        )
        asked = (program.shape, program.mesh, target, beside)
        searched = arguments.search
        reports = aot_search.search(*asked) if searched else [aot.compile_report(*asked)]
        found.append([report.to_json() for report in reports])
        if not arguments.json:
            several = f", {program.runs} of {len(recipe.sweep)} runs ({program.words})"
            _print_reports(recipe.name + several * (len(programs) > 1), reports)
        if not reports[0].fits and problem is None:
            print("it does not fit; trying fewer rows at once", file=sys.stderr)
            fitting = aot_search.nearest_fit(*asked)
            problem = aot_search.misfit(reports[0], fitting)
    if arguments.json:
        shown = found if arguments.search else [reports[0] for reports in found]
        print(json.dumps(shown if len(programs) > 1 else shown[0]))
    if problem is not None:
        raise UserError(problem)
    return 0


def _print_reports(title: str, reports: "list[CompileReport]") -> None:
    from replay_jax.commands.compiled import report_lines
    from replay_jax.compile import search as aot_search

    lines = "\n\n".join(f"{title} on {report_lines(report)}" for report in reports)
    print(lines, flush=True)
    if len(reports) > 1:
        print(f"\n{aot_search.fastest(reports)}")
    print(flush=True)


def _print_fit(result: FitResult) -> None:
    console = Console(markup=False, emoji=False)
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
    Console(markup=False, emoji=False).print(table)
