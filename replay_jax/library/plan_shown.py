"""A plan for a terminal: what it takes, what of the data it uses, and its ledger, seeds folded."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from replay_jax.data.ledger.planned import Entry
from replay_jax.data.sources.embedded import EMBEDDED_KINDS
from replay_jax.data.sources.files import expand_paths
from replay_jax.data.sources.source import DATASET_KINDS
from replay_jax.errors import UserError
from replay_jax.library.renting import Rental, fitting
from replay_jax.report.elements.blocks import Column, Line
from replay_jax.report.elements.blocks import Table as Blocks
from replay_jax.report.tables.screen import rich_table
from replay_jax.sweep.drive.drawing import plan_lines
from replay_jax.sweep.drive.durations import duration
from replay_jax.sweep.plan.naming import said_overrides, text
from replay_jax.sweep.plan.objective import target_shares
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.run import Run

_SEEDS = ("seed", "data_seed", "name")
# Said by columns of their own.
_SHOWN = (
    "schedule.replay_fraction",
    "schedule.stage2_allocation",
    "schedule.target_epochs",
    "schedule.target_sequences",
)
# Data of which a run draws less than this share is said, from so many tokens on.
_LITTLE, _LARGE = 0.5, 5_000_000


def summary(plan: Plan) -> list[str]:
    """A plan's totals in lines, and what of its data is missing or hardly used."""
    return [*plan_lines(plan), *data_lines(plan)]


def data_lines(plan: Plan) -> list[str]:
    """What of a plan's data is missing or hardly used."""
    return [*_missing(plan), *_unused(plan)]


def rented(found: Rental) -> str:
    """A rental in one line, and one on whether what is trained fits."""
    money = "" if found.money is None else f", {found.money:,.0f} at {found.price:g} a chip hour"
    return (
        f"on {found.topology}: {found.chip_hours:,.3g} chip hours, "
        f"{duration(3600 * found.hours)} on its {found.chips} chips{money}, "
        f"at {found.utilisation:.0%} of their dense peak (--mfu)\n{fitting(found)}"
    )


def rentals_table(
    plans: Mapping[str, Plan], rentals: Mapping[str, Rental], width: int
) -> RenderableType:
    """Several sweeps side by side, with their sum, in so many columns of characters."""
    titles = [("runs", 4), ("steps", 3), ("tokens", 6), ("FLOPs", 5)]
    titles += [(title, 0) for title in ("chip hours", "time", "money") if rentals]
    lines = []
    for name, plan in plans.items():
        totals = plan.to_json()["totals"]
        flops = totals["flops_remaining"] + totals["evaluation_flops_remaining"]
        cells = [name, f"{totals['runs']:,}", f"{plan.steps_planned:,}",
                 f"{totals['tokens']:.3g}", f"{flops:.3g}"]  # fmt: skip
        if name in rentals:
            cells += _rental_cells([rentals[name]])
        lines.append(Line(tuple(cells)))
    if rentals and len(plans) > 1:
        lines.append(Line(("all", "", "", "", "", *_rental_cells(list(rentals.values())))))
    return _table("what each takes", [("config", 0)], titles, lines, width)


def _table(
    title: str,
    names: Sequence[tuple[str, int]],
    numbers: Sequence[tuple[str, int]],
    lines: Sequence[Line],
    width: int,
) -> RenderableType:
    """Names and numbers by title, with how soon each is left out where there is no room."""
    columns = (
        *(Column(name, "left", drop) for name, drop in names),
        *(Column(name, "right", drop) for name, drop in numbers),
    )
    return rich_table(Blocks(title, columns, tuple(lines)), width)


def _rental_cells(rentals: Sequence[Rental]) -> list[str]:
    money = [each.money for each in rentals if each.money is not None]
    return [
        f"{sum(each.chip_hours for each in rentals):,.3g}",
        duration(3600 * sum(each.hours for each in rentals)),
        f"{sum(money):,.0f}" if money else "–",
    ]


def ledger_table(plan: Plan, width: int) -> RenderableType:
    """One line for runs that differ in their seeds alone: asked for, realised, rows and unique."""
    said = said_overrides([run.overrides for run in plan.runs])
    axes = _axes(said)
    titles, settings = _settings(said, axes)
    folded: dict[tuple[str, ...], int] = {}
    for run, own in zip(plan.runs, settings, strict=True):
        cells = (*own, *_cells(run))
        folded[cells] = folded.get(cells, 0) + 1
    return _table(
        "ledger (requested → realised where they differ; rows are sequences)",
        [(title, 0) for title in titles],
        [("rho", 0), ("alpha", 3), ("epochs", 0), ("target rows", 0), ("unique", 4),
         ("generic rows", 2), ("unique generic", 5), ("seeds", 1)],
        [Line((*cells, str(seeds))) for cells, seeds in folded.items()],
        width,
    )  # fmt: skip


def supervised_shown(plan: Plan) -> list[Table | str]:
    """Where not all labels count in the loss: a table of how many do, and what that makes of the
    target's share, least to most where seeds differ; and what held-out losses are. Else nothing."""
    masked = {
        name
        for run in plan.runs
        for name, source in run.config.data.sources
        if source.masked and name in run.views
    }
    if not masked:
        return []
    if any(None in counts for counts in _supervised_by_name(plan.runs).values()):
        return ["which labels count in the loss is known when all sources are tokenized"]
    said = said_overrides([run.overrides for run in plan.runs])
    axes = _axes(said)
    titles, named = _settings(said, axes)
    table = Table(
        *titles,
        "rho", "alpha", "epochs", "target\nrows", "in its\nbudget", "of\ntarget", "of\ngeneric",
        "stage", "share\nof rows", "share\nof loss", "seeds",
        title="labels that count in the loss, and the target's shares by stage",
        title_justify="left",
        box=None,
        collapse_padding=True,
        pad_edge=False,
    )  # fmt: skip
    for column in table.columns:
        column.overflow = "fold"
    for column in table.columns[len(axes) :]:
        column.justify = "right"
    settings: dict[tuple[str, ...], list[Run]] = {}
    for run, own in zip(plan.runs, named, strict=True):
        setting = (*own, *_cells(run)[:4])
        settings.setdefault(setting, []).append(run)
    for setting, runs in settings.items():
        cells, seeds = (*setting, *_supervised_counts(runs)), str(len(runs))
        for stage, *shares in _stage_shares(runs):
            table.add_row(*cells, stage, *shares, seeds)
            cells, seeds = ("",) * len(cells), ""
    objectives = " or ".join(sorted({run.config.training.objective for run in plan.runs}))
    return [
        table,
        f"a source's share of the loss is its share of {objectives} (training.objective); held-out "
        f"losses of {', '.join(sorted(masked))} are nats per label that counts",
    ]


def _supervised_counts(runs: Sequence[Run]) -> tuple[str, str, str]:
    """Labels that count of runs with one setting: of the target's budget, of it, of the rest."""
    run = runs[0]
    target, by_name = run.schedule.target, _supervised_by_name(runs)
    is_masked = dict(run.config.data.sources)[target].masked
    budgets = [run.views[target].budget_labels for run in runs]
    return (
        _between(budgets, ",") if is_masked else "all",
        _between(by_name[target], ","),
        " + ".join(_between(by_name[name], ",") for name in run.schedule.generics),
    )


def _supervised_by_name(runs: Sequence[Run]) -> dict[str, list[int | None]]:
    found: dict[str, list[int | None]] = {}
    for run in runs:
        for entry in run.ledger.totals:
            found.setdefault(entry.source, []).append(entry.supervised)
    return found


def _stage_shares(runs: Sequence[Run]) -> Iterator[tuple[str, str, str]]:
    """Each stage of runs with one setting, with the target's shares of rows and of the loss."""
    for number, stage in enumerate(runs[0].ledger.stages):
        found = [
            target_shares(run.ledger.stages[number].entries, run.schedule.target, run.loss_weights)
            for run in runs
        ]
        rows, loss = ([None if s is None else s[which] for s in found] for which in (0, 1))
        yield stage.name, _between(rows, ".4g"), _between(loss, ".4g")


def _between(values: Sequence[float | None], form: str) -> str:
    """The least and the most of some values in two lines, one where they look the same."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "unknown"
    least, most = (format(value, form) for value in (min(known), max(known)))
    return least if least == most else f"{least} to\n{most}"


def _axes(said: Sequence[Mapping[str, Any]]) -> list[str]:
    """Swept keys beyond seeds and what the ledger's own columns say, that differ between runs."""
    keys = dict.fromkeys(key for overrides in said for key in overrides)
    return [
        key
        for key in keys
        if key not in _SEEDS + _SHOWN
        and len({text(overrides.get(key, "")) for overrides in said}) > 1
    ]


def _settings(
    said: Sequence[Mapping[str, Any]], axes: Sequence[str]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Titles, and the cells of every run; words that all cells of a column begin with go above."""
    titles, columns = [], []
    for key in axes:
        cells = [text(overrides.get(key, "")) for overrides in said]
        above = os.path.commonprefix([cell.split(" ")[:-1] for cell in cells])
        titles.append(" ".join([key.rsplit(".", 1)[-1], *above]))
        columns.append([" ".join(cell.split(" ")[len(above) :]) for cell in cells])
    return titles, list(zip(*columns, strict=True)) or [()] * len(said)


def _cells(run: Run) -> tuple[str, ...]:
    requested, realised = run.ledger.requested, run.ledger.realised
    assert realised is not None
    entries = {entry.source: entry for entry in run.ledger.totals}
    target = entries[run.schedule.target]
    generic = [entries[name] for name in run.schedule.generics]
    return (
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


def _missing(plan: Plan) -> list[str]:
    """Sources whose files are not there, or that are not tokenized yet."""
    lines = []
    drawn = {name: view.pool_rows for run in plan.runs for name, view in run.views.items()}
    for name, source in plan.runs[0].config.data.sources:
        if name not in drawn or drawn[name] is not None:
            continue
        if source.kind not in (*DATASET_KINDS, *EMBEDDED_KINDS):
            try:
                expand_paths(source.path)
            except UserError as error:
                lines.append(f"missing: source '{name}': {error}")
                continue
        lines.append(f"source '{name}' is not tokenized yet: its rows have no numbers")
    return lines


def _unused(plan: Plan) -> list[str]:
    """Sources of which no run draws half of the rows, with what would prepare less."""
    lines = []
    sources = dict(plan.runs[0].config.data.sources)
    for name, source in sources.items():
        pools = {run.views[name].pool_rows for run in plan.runs if name in run.views}
        drawn = max((_drawn(run, name) for run in plan.runs), default=0)
        pool = max((rows for rows in pools if rows is not None), default=0)
        if 0 < drawn < _LITTLE * pool and pool * plan.runs[0].config.training.seq_len > _LARGE:
            kept = min(1.0, 1.2 * drawn / pool) * source.train_fraction
            lines.append(
                f"source '{name}' has {pool:,} rows, and no run draws more than {drawn:,} of them: "
                f"train_fraction {kept:.2g} would do"
            )
    return lines


def _drawn(run: Run, source: str) -> int:
    """Different rows of a source that a run draws."""
    entries = [entry for entry in run.ledger.totals if entry.source == source]
    return max((entry.unique or 0 for entry in entries), default=0)
