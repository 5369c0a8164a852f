"""Figures that compare finished runs: from one target's study to charts with captions."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from replay_jax.analysis.study.selection import (
    baseline,
    best_replay,
    competes,
    focus_budget,
    loss_of,
    row_of,
    schedules,
    seeds_of,
    setting_words,
    shown_fits,
)
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.lines import CONSTANT
from replay_jax.report.elements.words import between, times
from replay_jax.report.figures import charts
from replay_jax.report.figures.encodings import Row

_CURVE_POINTS = 81
# How far the law is drawn beyond the reference points: a quarter more, or as far as a schedule
# needs, but never beyond three doublings.
_MARGIN, _FARTHEST = 1.25, 8.0


def figure_name(kind: str, study: TargetStudy, *parts: object) -> str:
    """A file name: kind, target and what else tells figures apart, in letters, digits and _."""
    return file_name(kind, study.target, *parts)


def file_name(*parts: object) -> str:
    """A file name of parts, in letters, digits, ., - and _."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(str(part) for part in parts))


def efficiency_figure(study: TargetStudy) -> Figure | None:
    """The reference law with its band, and what each budget's schedules are worth on it.

    None where there is neither a reference run nor a schedule to draw.
    """
    reference = [
        {"tokens": cell.key.target_tokens, "loss": loss, "seed": seed}
        for cell in study.reference_cells
        for seed, loss in seeds_of(study, cell.chosen.target_by_seed)
    ]
    shown = [("no replay", baseline(study, tokens)) for tokens in study.budgets]
    shown += [("best replay", best_replay(study, tokens)) for tokens in study.budgets]
    shown += [(CONSTANT, _mixture(study, tokens)) for tokens in study.budgets]
    compared = [(name, cell) for name, cell in shown if cell is not None]
    if not reference and not compared:
        return None
    low, high = _law_range(study, [cell for _, cell in compared])
    candidates = [_candidate(study, name, cell, low, high) for name, cell in compared]
    since = _since(study)
    curve = [] if study.curve is None else _curve_rows(study, low, high, since)
    return Figure(
        name=figure_name("efficiency", study),
        title="What each schedule is worth in target data",
        caption=(
            "Grey: the reference recipe at several budgets, every seed a dot, with the fitted law "
            f"and {_band_words(study, since)}. Coloured: schedules at their own budget. "
            "From the amount at which the law has the baseline's loss, the dotted line leads as "
            "many times further as the best replay is worth; the thick bar is the interval of "
            "that multiplier."
            + " A constant mixture level with it does as well."
            * any(name == CONSTANT for name, _ in compared)
        ).replace("%", " %"),
        chart=charts.efficiency_chart(curve=curve, reference=reference, candidates=candidates),
        target=study.target,
    )


def _mixture(study: TargetStudy, tokens: int) -> CellResult | None:
    """The best constant mixture that rivals the best replay; None where it is the reference."""
    best = best_replay(study, tokens)
    if best is None:
        return None
    reference = {cell.key for cell in study.reference_cells}
    rivals = [cell for cell in study.cells if competes(cell.key, best.key)]
    mixtures = (c for c in rivals if c.key.protocol == "uniform" and c.key not in reference)
    return min(mixtures, key=loss_of, default=None)


def _law_range(study: TargetStudy, shown: Sequence[CellResult]) -> tuple[float, float]:
    """Smallest and largest amount of target tokens at which the law is drawn."""
    budgets = [float(cell.key.target_tokens) for cell in study.reference_cells]
    if not budgets:
        budgets = [float(tokens) for tokens in study.budgets]
    first, last = min(budgets), max(budgets)
    reached = [
        end
        for cell in shown
        if (found := cell.equivalent_tokens) is not None
        for end in (found.value, found.low, found.high)
        if end is not None
    ]
    low = max(min([first / _MARGIN, *reached]), first / _FARTHEST)
    high = min(max([last * _MARGIN, *reached]), last * _FARTHEST)
    return low, high


def _since(study: TargetStudy) -> float | None:
    """What the baseline of the focus budget is worth, from which the band is drawn."""
    tokens = focus_budget(study)
    compared = None if tokens is None else baseline(study, tokens)
    if compared is None or compared.equivalent_tokens is None:
        return None
    return compared.equivalent_tokens.value


def _band_words(study: TargetStudy, since: float | None) -> str:
    percent = f"{study.level:.0%}"
    if since is None:
        return f"its {percent} band"
    return (
        f"the {percent} band of how much it changes from where the baseline at "
        f"{focus_budget(study):,} target tokens stands, where the band closes: what a multiplier "
        "rests on"
    )


def _curve_rows(study: TargetStudy, low: float, high: float, since: float | None) -> list[Row]:
    """The law on a log grid that holds every reference budget, cut into three pieces there."""
    budgets = [float(cell.key.target_tokens) for cell in study.reference_cells]
    if not budgets:
        return []  # without a reference there is no law
    first, last = min(budgets), max(budgets)
    grid = sorted({*np.geomspace(low, high, _CURVE_POINTS).tolist(), *budgets})
    rows: list[Row] = []
    for row in study.band(grid, since=since):
        tokens = row["tokens"]
        if row["loss"] is None or tokens is None:
            continue
        pieces = [
            ("below", tokens <= first),
            ("measured", first <= tokens <= last),
            ("above", tokens >= last),
        ]
        for piece, inside in pieces:
            if inside:
                label = "reference law" if piece == "measured" else "extrapolated"
                rows.append({**row, "range": label, "piece": piece})
    return rows


def _candidate(
    study: TargetStudy, name: str, cell: CellResult, low: float, high: float
) -> dict[str, object]:
    """One schedule with its multiplier from where its baseline stands on the law.

    Ends of the interval are cut to what is drawn, its words are not. A constant mixture is a point
    alone: its line would lie on that of what it rivals.
    """
    start, worth = None, cell.multiplier
    mixed = name == CONSTANT
    if not mixed and cell.baseline is not None and worth is not None and worth.value is not None:
        tokens = study.cells[cell.baseline].equivalent_tokens
        start = None if tokens is None else tokens.value
    ends: dict[str, float | None] = dict.fromkeys(("start", "equivalent", "low", "high"))
    label = ""
    if start is not None and worth is not None and worth.value is not None:
        bounds = (low if worth.low is None else start * worth.low,
                  high if worth.high is None else start * worth.high)  # fmt: skip
        found = (start, start * worth.value, *bounds)
        ends = {key: _within(x, low, high) for key, x in zip(ends, found, strict=True)}
        label = times(worth)
    return {
        "series": name,
        "tokens": cell.key.target_tokens,
        "loss": loss_of(cell),
        "setting": f"ρ {cell.key.replay_fraction:.4g}, {setting_words(cell)}"
        if not mixed
        else f"{cell.chosen.target_epochs:g} epochs",
        "worth": "the baseline" if cell.is_baseline else times(worth) + f" {cell.note}".rstrip(),
        "label": label,
        "start": ends["start"],
        "equivalent": ends["equivalent"],
        "equivalent_low": ends["low"],
        "equivalent_high": ends["high"],
    }


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def heatmap_figures(
    study: TargetStudy, published: Mapping[tuple[float, float], Sequence[str]]
) -> tuple[Figure, ...]:
    """ρ × α, one figure per budget, where both were swept; further axes as in the best cell.

    `published`: whose lowest loss is published at which ρ and α; empty for none.
    """
    figures = []
    for tokens in study.budgets:
        best = best_replay(study, tokens)
        if best is None:
            continue
        cells = [c for c in schedules(study) if row_of(c.key) == row_of(best.key)]
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
