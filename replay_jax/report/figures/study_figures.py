"""Figures of replay fractions and allocations: from one target's study to charts, captions."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from replay_jax.analysis.study.selection import (
    loss_of,
    row_of,
    schedules,
    seeds_of,
    setting_words,
    shown_fits,
)
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.picks import Picks
from replay_jax.report.elements.words import between
from replay_jax.report.figures import charts
from replay_jax.report.figures.encodings import Row

_CURVE_POINTS = 81


def figure_name(kind: str, study: TargetStudy, *parts: object) -> str:
    """A file name: kind, target and what else tells figures apart, in letters, digits and _."""
    return file_name(kind, study.target, *parts)


def file_name(*parts: object) -> str:
    """A file name of parts, in letters, digits, ., - and _."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(str(part) for part in parts))


def heatmap_figures(
    study: TargetStudy, shown: Picks, published: Mapping[tuple[float, float], Sequence[str]]
) -> tuple[Figure, ...]:
    """ρ × α, one figure per budget, where both were swept; further axes as in what is answered.

    `published`: whose lowest loss is published at which ρ and α; empty for none.
    """
    figures = []
    for tokens, pick in shown.items():
        cells = [c for c in schedules(study) if row_of(c.key) == row_of(pick.best.key)]
        if min(len({c.key.allocation for c in cells}),
               len({c.key.replay_fraction for c in cells})) < 2:  # fmt: skip
            continue
        figures.append(
            Figure(
                name=figure_name("heatmap", study, tokens),
                title=f"Replay and allocation at {tokens:,} target tokens",
                caption=(
                    "Held-out target loss (nats per token, mean over seeds) of the best setting "
                    "in every cell; darker is lower, the lowest is boxed."
                    + " Names: where the paper has the lowest loss of its own targets, one run "
                    "each." * bool(published)
                ),
                chart=charts.heatmap_chart(_heatmap_rows(study, cells, published)),
                target=study.target,
            )
        )
    return tuple(figures)


def _heatmap_rows(
    study: TargetStudy,
    cells: Sequence[CellResult],
    published: Mapping[tuple[float, float], Sequence[str]],
) -> list[Row]:
    losses = [loss_of(cell) for cell in cells]
    least, most = min(losses), max(losses)
    rows: list[Row] = []
    for cell, loss in zip(cells, losses, strict=True):
        runs = [value for _, value in seeds_of(study, cell.chosen.target_by_seed)]
        place = (cell.key.replay_fraction, cell.key.allocation)
        rows.append(
            {
                "published": ", ".join(published[place]) if place in published else "",
                "rho": cell.key.replay_fraction,
                "alpha": cell.key.allocation,
                "loss": loss,
                "low": min(runs),
                "high": max(runs),
                "seeds": len(runs),
                "setting": setting_words(cell),
                "best": loss == least,
                "dark": loss < least + 0.62 * (most - least),
            }
        )
    return rows


def quadratic_figure(study: TargetStudy) -> Figure | None:
    """The degree-2 fit in −ln(1 − ρ), for each budget's row with the lowest loss."""
    fits = shown_fits(study)
    if not fits:
        return None
    points: list[Row] = []
    curve: list[Row] = []
    minima: list[Row] = []
    for series, fit in fits.items():
        cells = [study.cells[index] for index in fit.cells]
        strengths = [-np.log1p(-cell.key.replay_fraction) for cell in cells]
        for cell, strength in zip(cells, strengths, strict=True):
            points += [
                {"series": series, "strength": float(strength), "rho": cell.key.replay_fraction,
                 "loss": loss, "seed": seed}
                for seed, loss in seeds_of(study, cell.chosen.target_by_seed)
            ]  # fmt: skip
        end = max(strengths)
        least = None if fit.minimum is None else fit.minimum.value
        if least is not None:
            end = max(end, -np.log1p(-least))
            loss = float(fit.loss(np.array([least]))[0])
            label = f"ρ = {between(fit.minimum, '.2f')}".replace(" (", "\n(")
            minima.append(
                {"series": series, "strength": float(-np.log1p(-least)), "rho": least,
                 "loss": loss, "label": label}
            )  # fmt: skip
        grid = np.linspace(0.0, end, _CURVE_POINTS)
        fitted = fit.loss(-np.expm1(-grid))
        curve += [
            {"series": series, "strength": float(x), "loss": float(y)}
            for x, y in zip(grid, fitted, strict=True)
        ]
    return Figure(
        name=figure_name("quadratic", study),
        title="Quadratic fit in replay strength",
        caption=(
            "A degree-2 polynomial through all seeds of the tuned settings. Its minimum is drawn "
            "only where the curve has one within 20 % beyond the replay fractions that were run."
        ),
        chart=charts.quadratic_chart(points, curve, minima),
        target=study.target,
    )
