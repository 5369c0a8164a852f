"""Comparisons between the cells of one target: rows of rho, fronts, controls, boundaries."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.study.groups import Cell, Setting
from replay_jax.analysis.study.study import BoundaryResult, CellResult, Control, ReplayFit

_BEYOND = 0.2  # a predicted minimum may lie this share of the sampled range beyond it


def difference(value: float, drawn: np.ndarray, *, spread: bool, level: float) -> Interval:
    """A loss or difference of losses in nats with the interval of its resamples [R].

    `spread` False: nothing is known about noise, so there is no interval.
    """
    if not spread:
        return Interval(float(value), None, None, note="seed noise unknown")
    low, high = interval(drawn, level=level)
    return Interval(float(value), min(low, float(value)), max(high, float(value)))


def edges_of(cell: Cell, chosen: Setting) -> tuple[str, ...]:
    """Tuned numbers whose best value is the first or last one tried, in words with what to try."""
    lines = []
    for position, (name, value) in enumerate(chosen.tuned):
        tried = sorted({_number(setting.tuned[position][1]) for setting in cell.settings})
        if len(tried) < 2 or np.isnan(tried).any():
            continue
        if _number(value) == tried[-1]:
            step = one_further(tried[::-1])
            lines.append(f"{name}: best at {value:g}, the largest tried; try {step:g}")
        elif _number(value) == tried[0]:
            step = one_further(tried)
            suffix = f"; try {step:g}" if step > 0 else ""
            lines.append(f"{name}: best at {value:g}, the smallest tried{suffix}")
    return tuple(lines)


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


def fit_replay(
    cells: Sequence[CellResult], drawn: np.ndarray, *, spread: bool, level: float
) -> tuple[ReplayFit, ...]:
    """Quadratics in -ln(1 - rho) for every row of at least three rho; drawn is [R, cells]."""
    rows: dict[tuple[object, ...], list[int]] = {}
    for index, cell in enumerate(cells):
        key = cell.key
        if key.protocol != "uniform" and key.replay_fraction < 1:
            rows.setdefault((key.protocol, key.target_tokens, key.axes, key.allocation), []).append(
                index
            )
    fits = []
    for members in rows.values():
        members.sort(key=lambda index: cells[index].key.replay_fraction)
        fractions = np.array([cells[index].key.replay_fraction for index in members])
        if len(set(fractions)) < 3 or len(set(fractions)) < len(fractions):
            continue
        t = -np.log1p(-fractions)
        losses = np.array([cells[index].target_loss.value for index in members])
        coefficients = np.polyfit(t, losses, 2)
        resampled = np.polyfit(t, drawn[:, members].T, 2)
        minimum, note = _minimum(t, coefficients, resampled, spread=spread, level=level)
        a, b, c = (float(value) for value in coefficients)
        fits.append(ReplayFit(tuple(members), (a, b, c), minimum, note))
    return tuple(fits)


def pareto_fronts(cells: Sequence[CellResult]) -> dict[int, tuple[int, ...]]:
    """For each budget, the cells that none beats on both target and generic loss."""
    fronts: dict[int, tuple[int, ...]] = {}
    for budget in sorted({cell.key.target_tokens for cell in cells}):
        members = [i for i, cell in enumerate(cells) if cell.key.target_tokens == budget]
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


def boundary_of(records: Sequence[Mapping[str, Any]]) -> BoundaryResult:
    """Mean over seeds of what happened at the stage boundary and of the train/held-out gap."""
    found = [record["boundary"] for record in records if record["boundary"] is not None]

    def mean(values: list[Any]) -> float | None:
        present = [float(value) for value in values if value is not None]
        return sum(present) / len(present) if present else None

    gaps = []
    for record in records:
        if record["curve"] and record["curve"][-1]["train_target"] is not None:
            gaps.append(record["losses"]["target"] - record["curve"][-1]["train_target"])
    return BoundaryResult(
        step=mean([boundary["step"] for boundary in found]),
        target_spike=mean([b["after"]["target"] - b["before"]["target"] for b in found]),
        generic_spike=mean([b["after"]["generic"] - b["before"]["generic"] for b in found]),
        gradient_cosine=mean([boundary["gradient_cosine"] for boundary in found]),
        gap=mean(gaps),
    )


def _minimum(
    t: np.ndarray,
    coefficients: np.ndarray,
    resampled: np.ndarray,
    *,
    spread: bool,
    level: float,
) -> tuple[Interval | None, str]:
    """Predicted best rho, or None and why."""
    reach = _BEYOND * (t[-1] - t[0])
    low, high = max(0.0, t[0] - reach), t[-1] + reach
    a, b, _ = coefficients
    if a <= 0:
        return None, "the fitted curve has no minimum"
    best = -b / (2 * a)
    if not t[0] - reach <= best <= high:
        side = "above" if best > high else "below"
        return None, f"the fitted minimum lies far {side} the sampled replay fractions"
    value = float(-np.expm1(-max(best, 0.0)))
    if not spread:
        return Interval(value, None, None, note="seed noise unknown"), ""
    a, b = resampled[0], resampled[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.clip(-b / (2 * a), low, high)
    falling = a * (high**2 - low**2) + b * (high - low) < 0
    drawn = np.where(a > 0, vertex, np.where(falling, high, low))
    ends = -np.expm1(-np.array(interval(drawn, level=level)))
    return Interval(value, min(float(ends[0]), value), max(float(ends[1]), value)), ""


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float("nan")
