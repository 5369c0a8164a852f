"""How the cells of a study hang together: what varies with what, and the reference curve's points.

Shape legend: K settings, S seeds, N reference points.
"""

from collections.abc import Sequence

import numpy as np

from replay_jax.analysis.statistics.components import Layout
from replay_jax.analysis.statistics.efficiency import (
    MIN_POINTS,
    ReferencePoints,
    point_weights,
    require_falling,
)
from replay_jax.analysis.statistics.noise import Noise
from replay_jax.analysis.study.groups import Cell, describe
from replay_jax.errors import UserError


def layout_of(cells: Sequence[Cell]) -> Layout:
    """What settings share within a seed: their budget, and whether and how they replay.

    Noise may differ between budgets, and between these kinds of run at one budget.
    """
    budgets, kinds = [], []
    for cell in cells:
        budgets += [cell.key.target_tokens] * len(cell.settings)
        kinds += [f"{cell.key.protocol} {cell.key.replay_fraction > 0}"] * len(cell.settings)
    _, budget = np.unique(budgets, return_inverse=True)
    _, kind = np.unique(kinds, return_inverse=True)
    return Layout(
        effects=(("seed x budget", budget), ("seed x protocol", kind)),
        strata=budget * (kind.max() + 1) + kind,
    )


def reference_cells(cells: Sequence[Cell]) -> tuple[list[int], str]:
    """Reference cells by growing budget, and in words why they make no law (empty if they may)."""
    by_budget: dict[int, list[int]] = {}
    for index, cell in enumerate(cells):
        if cell.is_reference:
            by_budget.setdefault(cell.key.target_tokens, []).append(index)
    places = [by_budget[budget][0] for budget in sorted(by_budget)]
    if len(by_budget) < MIN_POINTS:
        # No law could tell which of several at one budget is meant, so none has to.
        listed = ", ".join(f"{budget:,}" for budget in sorted(by_budget)) or "none"
        return places, (
            f"a reference law needs at least {MIN_POINTS} budgets of target data, not "
            f"{len(by_budget)} ({listed})"
        )
    for budget, found in by_budget.items():
        if len(found) > 1:
            names = "; ".join(describe(cells[index].key) for index in found[:3])
            raise UserError(
                f"{len(found)} groups of runs claim to be the reference at {budget:,} target "
                f"tokens ({names}); narrow the reference (analysis.reference, --reference), or "
                "list what differs as tuned"
            )
    return places, ""


def reference_points(
    cells: Sequence[Cell], noise: Noise, rows: np.ndarray
) -> tuple[ReferencePoints | None, str]:
    """(points, "") or (None, why not) from tuned cells [N] whose best are settings `rows` [N]."""
    points = ReferencePoints(
        x=np.array([float(cell.key.target_tokens) for cell in cells]),
        loss=noise.means[rows],
        weights=point_weights(noise.mean[rows]) if noise.known else np.ones(len(cells)),
    )
    try:
        require_falling(points)
    except UserError as error:
        return None, str(error)
    return points, ""
