"""Losses against the replay fraction: a line joins only what differs in nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.study.selection import loss_of, seeds_of, setting_words
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.lines import baselines_off_the_lines, replay_lines
from replay_jax.report.figures import charts
from replay_jax.report.figures.encodings import GENERIC_LOSS, TARGET_LOSS, Row
from replay_jax.report.figures.study_figures import figure_name

BASELINE = "baseline"
# More lines than colours could not be told apart.
_MOST_LINES = 6
_KINDS = (
    ("target", "Target loss against replay", TARGET_LOSS),
    ("generic", "Generic loss against replay", GENERIC_LOSS),
)


def replay_figures(study: TargetStudy) -> tuple[Figure, ...]:
    """Target and generic loss against the replay fraction; none of what nothing has."""
    lines, left_out = _shown_lines(study)
    if not lines:
        return ()
    return tuple(
        Figure(
            name=figure_name(f"replay_{kind}", study),
            title=title,
            caption=_caption(study, lines, left_out),
            chart=charts.replay_chart(*_rows(study, lines, kind), loss_title=axis),
            target=study.target,
        )
        for kind, title, axis in _KINDS
        if any(_losses(study, cell, kind) for cells in lines.values() for cell in cells)
    )


def _shown_lines(study: TargetStudy) -> tuple[dict[str, tuple[CellResult, ...]], int]:
    """The lines with the lowest target losses, in the order of the study, and how many are not."""
    lines = replay_lines(study)
    order = sorted(lines, key=lambda label: min(map(loss_of, lines[label])))
    kept = set(order[:_MOST_LINES])
    shown = {label: cells for label, cells in lines.items() if label in kept}
    return shown, len(lines) - len(shown)


def _caption(study: TargetStudy, lines: dict[str, tuple[CellResult, ...]], left_out: int) -> str:
    words = (
        "Lines join the means over seeds, small dots are single seeds, each at its best tuned "
        "setting; along a line nothing but the replay fraction and what was tuned differs. The "
        "ring marks the lowest target loss of each line."
    )
    if baselines_off_the_lines(study, tuple(lines.values())):
        words += (
            " Grey: baselines at another allocation, against which the multipliers are counted."
        )
    if left_out:
        words += f" {left_out} further lines, of higher loss, are in the tables only."
    return words


def _rows(
    study: TargetStudy, lines: dict[str, tuple[CellResult, ...]], kind: str
) -> tuple[list[Row], list[Row], list[Row]]:
    """Means, seeds, and the baselines that no line passes."""
    means: list[Row] = []
    seeds: list[Row] = []
    for series, cells in lines.items():
        best = min(cells, key=loss_of) if len(cells) > 1 else None
        for cell in (cell for cell in cells if _losses(study, cell, kind)):
            means.append(_mean(study, cell, kind, series) | {"best": cell is best})
            seeds += [
                {"series": series, "rho": cell.key.replay_fraction, "loss": loss, "seed": seed}
                for seed, loss in _losses(study, cell, kind)
            ]
    off = baselines_off_the_lines(study, tuple(lines.values()))
    baselines: list[Row] = [
        _mean(study, cell, kind, f"{BASELINE}, {cell.key.target_tokens:,} tokens")
        for cell in off
        if _losses(study, cell, kind)
    ]
    return means, seeds, baselines


def _mean(study: TargetStudy, cell: CellResult, kind: str, series: str) -> dict[str, Any]:
    runs = _losses(study, cell, kind)
    return {
        "series": series,
        "rho": cell.key.replay_fraction,
        "loss": float(np.mean([loss for _, loss in runs])),
        "setting": setting_words(cell),
        "seeds": len(runs),
    }


def _losses(study: TargetStudy, cell: CellResult, kind: str) -> Sequence[tuple[int, float]]:
    chosen = cell.chosen
    return seeds_of(study, chosen.target_by_seed if kind == "target" else chosen.generic_by_seed)
