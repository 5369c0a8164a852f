"""Comparisons between the cells of one target: baselines, edges, fronts, controls."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.study.groups import Cell, Setting, describe
from replay_jax.analysis.study.study import CellResult, Control, Edge


def baseline_of(cells: Sequence[Cell], index: int) -> tuple[int | None, str]:
    """The tuned cell without replay to compare with: (index or None, why not).

    Same budget; same protocol and axes, except that a constant mixture or free stages, which have
    no baseline of their own, borrow another protocol's: with the same axes if there is one, and of
    several the one whose loss is lowest. Of several allocations the largest: all target data at the
    end is the usual way.
    """
    own = cells[index].key
    found = [
        i
        for i, cell in enumerate(cells)
        if cell.key.replay_fraction == 0
        and cell.key.protocol != "uniform"
        and cell.key.target_tokens == own.target_tokens
    ]
    same = [
        i for i in found if (cells[i].key.protocol, cells[i].key.axes) == (own.protocol, own.axes)
    ]
    if not same and own.protocol in ("uniform", "stages"):
        same = [i for i in found if cells[i].key.axes == own.axes] or found
    if not same:
        return None, f"no run without replay to compare with ({describe(own)})"
    return max(same, key=lambda i: (cells[i].key.allocation, -_lowest(cells[i]))), ""


def _lowest(cell: Cell) -> float:
    """Mean target loss of a cell's best setting, over the seeds that it has."""
    return min(float(np.nanmean(setting.target)) for setting in cell.settings)


def difference(value: float, drawn: np.ndarray, *, spread: bool, level: float) -> Interval:
    """A loss or difference of losses in nats with the interval of its resamples [R].

    `spread` False: nothing is known about noise, so there is no interval. A nan was not measured.
    """
    if np.isnan(value):
        return Interval(None, None, None, note="not measured")
    if not spread:
        return Interval(float(value), None, None, note="seed noise unknown")
    low, high = interval(drawn, level=level)
    return Interval(float(value), min(low, float(value)), max(high, float(value)))


def edges_of(settings: Sequence[Setting], chosen: Setting) -> tuple[Edge, ...]:
    """Tuned numbers whose best value is the first or last one tried."""
    edges = []
    for position, (name, value) in enumerate(chosen.tuned):
        tried = sorted({_number(setting.tuned[position][1]) for setting in settings})
        if len(tried) < 2 or np.isnan(tried).any():
            continue
        if _number(value) == tried[-1]:
            edges.append(Edge(name, value, largest=True, further=one_further(tried[::-1])))
        elif _number(value) == tried[0]:
            below = one_further(tried) if tried[0] > 0 else None
            edges.append(Edge(name, value, largest=False, further=below))
    return tuple(edges)


def one_further(tried: Sequence[float]) -> float:
    """The value before the first of those tried, by the ratio of the first two.

    Whole where all are: a number of epochs must give whole sequences. Where the second is 0, twice
    the first.
    """
    first, second = tried[0], tried[1]
    if second <= 0:
        return 2 * first
    value = first * first / second
    if value < 1 or not all(float(number).is_integer() for number in tried):
        return value
    return float(round(value))


def pareto_fronts(cells: Sequence[CellResult]) -> dict[int, tuple[int, ...]]:
    """For each budget, the cells that none beats on both target and generic loss.

    Those whose generic loss was not measured are none of them.
    """
    fronts: dict[int, tuple[int, ...]] = {}
    for budget in sorted({cell.key.target_tokens for cell in cells}):
        members = [
            i
            for i, cell in enumerate(cells)
            if cell.key.target_tokens == budget and np.isfinite(cell.chosen.generic_loss)
        ]
        losses = {i: (cells[i].chosen.target_loss, cells[i].chosen.generic_loss) for i in members}
        front = [
            i
            for i in members
            if not any(
                losses[j][0] <= losses[i][0]
                and losses[j][1] <= losses[i][1]
                and losses[j] != losses[i]
                for j in members
            )
        ]
        fronts[budget] = tuple(sorted(front, key=lambda i: losses[i]))
    return fronts


def find_controls(
    cells: Sequence[CellResult], drawn: np.ndarray, *, spread: bool, level: float
) -> tuple[Control, ...]:
    """Each staged cell against the constant mixture of its budget, both tuned by themselves.

    `drawn` [R, cells] are resampled tuned losses. All other axes are equal.
    """
    controls = []
    for index, cell in enumerate(cells):
        if cell.key.protocol == "uniform":
            continue
        for other, constant in enumerate(cells):
            if constant.key.protocol != "uniform" or (
                (constant.key.target_tokens, constant.key.axes)
                != (cell.key.target_tokens, cell.key.axes)
            ):
                continue
            gap = difference(
                cell.chosen.target_loss - constant.chosen.target_loss,
                drawn[:, index] - drawn[:, other],
                spread=spread,
                level=level,
            )
            controls.append(Control(index, other, constant.chosen.target_epochs, gap))
    return tuple(controls)


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float("nan")
