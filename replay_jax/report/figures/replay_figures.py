"""Losses against the replay fraction: a line joins only what differs in nothing else."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.study.selection import loss_of, row_of, seeds_of, setting_words
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.lines import baselines_off_the_lines, replay_lines
from replay_jax.report.elements.picks import Picks
from replay_jax.report.figures import charts
from replay_jax.report.figures.encodings import GENERIC_LOSS, TARGET_LOSS, Row
from replay_jax.report.figures.study_figures import figure_name

BASELINE = "baseline"
# Cells of equal all but replay fraction and what was tuned, by label.
Lines = dict[str, tuple[CellResult, ...]]
# More lines than colours could not be told apart.
_MOST_LINES = 6
_KINDS = (
    ("target", "Target loss against replay", TARGET_LOSS),
    ("generic", "Generic loss against replay", GENERIC_LOSS),
)


def replay_figures(study: TargetStudy, shown: Picks) -> tuple[Figure, ...]:
    """Target and generic loss against the replay fraction; none of what nothing has."""
    lines, left_out = _shown_lines(study, shown)
    if not lines:
        return ()
    return tuple(
        Figure(
            name=figure_name(f"replay_{kind}", study),
            title=title,
            caption=_caption(study, shown, lines, left_out),
            chart=charts.replay_chart(*_rows(study, shown, lines, kind), loss_title=axis),
            target=study.target,
        )
        for kind, title, axis in _KINDS
        if any(_losses(study, cell, kind) for cells in lines.values() for cell in cells)
    )


def _shown_lines(study: TargetStudy, shown: Picks) -> tuple[Lines, int]:
    """The lines to draw, in the order of the study, and how many are not.

    First those of the answers, then the first of every group, and of each the lowest losses.
    """
    lines = replay_lines(study)
    answered = {id(pick.best) for pick in shown.values()}
    first = {row_of(cells[0].key): label for label, cells in reversed(lines.items())}.values()

    def rank(label: str) -> tuple[bool, bool, float]:
        cells = lines[label]
        others = answered.isdisjoint(map(id, cells))
        return others, label not in first, min(map(loss_of, cells))

    kept = set(sorted(lines, key=rank)[:_MOST_LINES])
    drawn = {label: cells for label, cells in lines.items() if label in kept}
    return drawn, len(lines) - len(drawn)


def _caption(study: TargetStudy, shown: Picks, lines: Lines, left_out: int) -> str:
    words = "Small dots are single seeds, each at its best tuned setting."
    if any(len(cells) > 1 for cells in lines.values()):
        words = (
            "Lines join the means over seeds, small dots are single seeds, each at its best tuned "
            "setting; along a line nothing but the replay fraction and what was tuned differs. The "
            "ring marks the lowest target loss of each line."
        )
    if _rivals(shown, lines):
        words += " Dashed across: the best schedule without replay, which is on none of the lines."
    if _baselines(study, shown, lines):
        words += " Grey: baselines at another allocation, against which worth is counted."
    if left_out:
        words += f" {left_out} further lines are in the tables only."
    return words


def _rivals(shown: Picks, lines: Lines) -> list[tuple[str, CellResult]]:
    """The best schedules without replay that no line passes, with their names."""
    drawn = {id(cell) for cells in lines.values() for cell in cells}
    several = len(shown) > 1
    return [
        (pick.name(pick.rival) + f", {tokens:,}" * several, pick.rival)
        for tokens, pick in shown.items()
        if pick.rival is not None and id(pick.rival) not in drawn
    ]


def _baselines(study: TargetStudy, shown: Picks, lines: Lines) -> list[CellResult]:
    """Baselines of what is drawn that no line passes and that are no rivals."""
    rivals = [cell for _, cell in _rivals(shown, lines)]
    found = baselines_off_the_lines(study, tuple(lines.values()))
    return [cell for cell in found if all(cell is not rival for rival in rivals)]


def _rows(
    study: TargetStudy, shown: Picks, lines: Lines, kind: str
) -> tuple[list[Row], list[Row], list[Row], list[Row]]:
    """Means, seeds, the baselines that no line passes, and the rivals."""
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
    baselines: list[Row] = [
        _mean(study, cell, kind, f"{BASELINE}, {cell.key.target_tokens:,} tokens")
        for cell in _baselines(study, shown, lines)
        if _losses(study, cell, kind)
    ]
    across: list[Row] = [_mean(study, cell, kind, name) for name, cell in _rivals(shown, lines)]
    return means, seeds, baselines, across


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
