"""Figures of costs and of what happened inside the runs, with captions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.study.selection import (
    Records,
    focus_budget,
    records_of,
    seeds_of,
    setting_words,
)
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.lines import CONSTANT, line_of
from replay_jax.report.elements.picks import Picks, focus
from replay_jax.report.figures import charts, run_charts
from replay_jax.report.figures.encodings import Row
from replay_jax.report.figures.study_figures import figure_name

# Around the boundary, as a share of the run on either side.
_WINDOW = 0.15
_AFTER_BOUNDARY = {
    "generic": "A rise right of the dashed line is the spike of an abrupt change of data.",
    "target": "The fall right of the dashed line is what stage 2 teaches, and how fast.",
}


def pareto_figures(study: TargetStudy) -> tuple[Figure, ...]:
    """Target against generic loss, one figure per budget, with the front of the best trades."""
    figures = []
    for tokens in study.budgets:
        cells = [
            cell
            for cell in study.cells
            if cell.key.target_tokens == tokens and np.isfinite(cell.chosen.generic_loss)
        ]
        if not cells:
            continue
        cells.sort(key=lambda c: (c.key.protocol == "uniform", c.key.replay_fraction))
        front = [study.cells[index] for index in study.front[tokens]]
        trades: list[Row] = [
            {"target": cell.chosen.target_loss, "generic": cell.chosen.generic_loss}
            for cell in sorted(front, key=lambda cell: cell.chosen.target_loss)
        ]
        points = [_trade(study, cell) for cell in cells]
        figures.append(
            Figure(
                name=figure_name("pareto", study, tokens),
                title=f"Target against generic loss at {tokens:,} target tokens",
                caption=(
                    "One point per schedule, mean over seeds; bars reach from the lowest to the "
                    "highest seed. Lower left is better on both. The dashed line joins the "
                    "schedules that no other beats on both."
                ),
                chart=charts.pareto_chart(points, trades),
                target=study.target,
            )
        )
    return tuple(figures)


def _trade(study: TargetStudy, cell: CellResult) -> Row:
    target = [loss for _, loss in seeds_of(study, cell.chosen.target_by_seed)]
    generic = [loss for _, loss in seeds_of(study, cell.chosen.generic_by_seed)]
    uniform = cell.key.protocol == "uniform"
    return {
        "series": CONSTANT if uniform else f"{cell.key.replay_fraction:.4g}",
        "target": cell.chosen.target_loss,
        "generic": cell.chosen.generic_loss,
        "target_low": min(target),
        "target_high": max(target),
        "generic_low": min(generic),
        "generic_high": max(generic),
        "setting": f"{cell.chosen.target_epochs:g} epochs" if uniform else setting_words(cell),
        "seeds": len(target),
    }


def training_figures(study: TargetStudy, shown: Picks, records: Records) -> tuple[Figure, ...]:
    """Loss along the runs at the focus budget, target and generic; none without curves."""
    cells = _focus_line(study, shown)
    starts = _boundaries(cells, records)
    figures = []
    for domain in ("target", "generic"):
        rows = _curve_rows(cells, records, domain)
        if not rows:
            continue
        figures.append(
            Figure(
                name=figure_name(f"training_{domain}", study),
                title=f"{domain.capitalize()} loss along the runs{_at_focus(study)}",
                caption=(
                    "The best setting at every replay fraction, one line per seed: solid on held-"
                    f"out {domain} text, dotted on the {domain} rows trained on, whose losses are "
                    "means between two evaluations, drawn in the middle of their window. Dots: "
                    "what was measured. Vertical lines: stage 2 starts."
                ),
                chart=run_charts.training_chart(rows, starts, loss_title=f"{domain} loss "
                                                "(nats per token)"),
                target=study.target,
            )
        )  # fmt: skip
    return tuple(figures)


def boundary_figures(study: TargetStudy, shown: Picks, records: Records) -> tuple[Figure, ...]:
    """Loss around the stage boundary, its jump, and the gradient cosine; none if not measured."""
    cells = [
        cell
        for cell in _focus_line(study, shown)
        if any(record["boundary"] is not None for record in records_of(cell, records))
    ]
    if not cells:
        return ()
    figures = [
        Figure(
            name=figure_name(f"boundary_{domain}", study),
            title=f"{domain.capitalize()} loss around the stage boundary{_at_focus(study)}",
            caption=(
                f"Held-out {domain} loss less its value when stage 2 begins, one line per seed. "
                f"{_AFTER_BOUNDARY[domain]}"
            ),
            chart=run_charts.boundary_chart(
                _around(cells, records, domain),
                loss_title=f"change of {domain} loss (nats per token)",
            ),
            target=study.target,
        )
        for domain in ("generic", "target")
    ]
    figures.append(
        Figure(
            name=figure_name("spike", study),
            title=f"Jump of the loss across the boundary{_at_focus(study)}",
            caption="Held-out loss a few updates into stage 2, less the loss where it begins.",
            chart=run_charts.seeds_chart(
                _jumps(cells, records),
                field_title="change of held-out loss (nats per token)",
                zero=True,
            ),
            target=study.target,
        )
    )
    cosines = _cosines(cells, records)
    if cosines:
        figures.append(
            Figure(
                name=figure_name("cosine", study),
                title=f"Gradient cosine at the boundary{_at_focus(study)}",
                caption=(
                    "Cosine between the gradients of the generic and of the target loss where "
                    "stage 2 begins: 1 pulls the same way, 0 is unrelated, below 0 opposed."
                ),
                chart=run_charts.seeds_chart(
                    cosines, field_title="gradient cosine (−1 to 1)", zero=True
                ),
                target=study.target,
            )
        )
    return tuple(figures)


def _focus_line(study: TargetStudy, shown: Picks) -> tuple[CellResult, ...]:
    """At the focus budget, the line that holds what is answered; empty if nothing replays."""
    pick = focus(study, shown)
    return () if pick is None else line_of(study, pick.best)


def _at_focus(study: TargetStudy) -> str:
    tokens = focus_budget(study)
    return "" if tokens is None or len(study.budgets) == 1 else f", {tokens:,} target tokens"


def _curve_rows(cells: Sequence[CellResult], records: Records, domain: str) -> list[Row]:
    return [
        {
            "series": f"{cell.key.replay_fraction:.4g}",
            "setting": setting_words(cell),
            "seed": record["seed"],
            **point,
            "run": f"{record['id']} {point['measured']} {point['piece']}",
        }
        for cell in cells
        for record in records_of(cell, records)
        for point in (*_held_out(record, domain), *_trained_on(record, domain))
    ]


def _held_out(record: Mapping[str, Any], domain: str) -> list[Row]:
    return [
        {"step": point["step"], "loss": point[domain], "measured": "held out", "piece": 0}
        for point in record["curve"]
        if point[domain] is not None
    ]


def _trained_on(record: Mapping[str, Any], domain: str) -> list[Row]:
    """Means over the steps between two evaluations, each in the middle of its window.

    A new piece begins after a window in which nothing of the domain was trained on, so that no line
    crosses it.
    """
    rows: list[Row] = []
    before, piece = 0, 0
    for point in record["curve"]:
        loss = point[f"train_{domain}"]
        if loss is None:
            piece += 1
        else:
            middle = (before + point["step"]) / 2
            rows.append({"step": middle, "loss": loss, "measured": "training", "piece": piece})
        before = point["step"]
    return rows


def _boundaries(cells: Sequence[CellResult], records: Records) -> list[Row]:
    found = {
        (f"{cell.key.replay_fraction:.4g}", record["boundary"]["step"])
        for cell in cells
        for record in records_of(cell, records)
        if record["boundary"] is not None
    }
    return [{"series": series, "step": step} for series, step in sorted(found)]


def _around(cells: Sequence[CellResult], records: Records, domain: str) -> list[Row]:
    """Evaluations near the boundary, less the loss just before it."""
    rows: list[Row] = []
    for cell in cells:
        for record in records_of(cell, records):
            boundary = record["boundary"]
            if boundary is None:
                continue
            start, before = boundary["step"], boundary["before"][domain]
            reach = max(1, round(_WINDOW * record["total_steps"]))
            points = {
                point["step"]: point[domain]
                for point in record["curve"]
                if abs(point["step"] - start) <= reach
            }
            rows += [
                {
                    "series": f"{cell.key.replay_fraction:.4g}",
                    "offset": step - start,
                    "change": points[step] - before,
                    "setting": setting_words(cell),
                    "seed": record["seed"],
                    "run": record["id"],
                }
                for step in sorted(points)
            ]
    return rows


def _jumps(cells: Sequence[CellResult], records: Records) -> list[Row]:
    return [
        {
            "series": domain,
            "rho": cell.key.replay_fraction,
            "value": record["boundary"]["after"][domain] - record["boundary"]["before"][domain],
            "setting": setting_words(cell),
            "seed": record["seed"],
        }
        for domain in ("target", "generic")
        for cell in cells
        for record in records_of(cell, records)
        if record["boundary"] is not None
    ]


def _cosines(cells: Sequence[CellResult], records: Records) -> list[Row]:
    return [
        {
            "series": "generic and target",
            "rho": cell.key.replay_fraction,
            "value": record["boundary"]["gradient_cosine"],
            "setting": setting_words(cell),
            "seed": record["seed"],
        }
        for cell in cells
        for record in records_of(cell, records)
        if record["boundary"] is not None and record["boundary"]["gradient_cosine"] is not None
    ]
