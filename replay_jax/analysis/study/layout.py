"""How the cells of a study hang together: what varies with what, and the reference curve's points.

Shape legend: K settings, S seeds, N reference points.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from replay_jax.analysis.noise.components import Layout
from replay_jax.analysis.noise.resampling import Noise
from replay_jax.analysis.runs.records import text
from replay_jax.analysis.statistics.efficiency import (
    MIN_POINTS,
    ReferencePoints,
    point_weights,
    require_falling,
)
from replay_jax.analysis.study.groups import Cell, CellKey, Setting, describe
from replay_jax.errors import UserError

_MOST_NAMED = 3


def distinct_settings(cells: Sequence[Cell]) -> tuple[list[Setting], tuple[np.ndarray, ...]]:
    """Settings of other runs than any before, and which of them each cell has, in its order.

    Cells have the same runs where these are without replay and the study compares what is replayed.
    """
    places: dict[tuple[int, ...], int] = {}
    settings: list[Setting] = []
    rows = []
    for cell in cells:
        own = []
        for setting in cell.settings:
            runs = tuple(id(record) for record in setting.records)
            if runs not in places:
                places[runs] = len(settings)
                settings.append(setting)
            own.append(places[runs])
        rows.append(np.array(own))
    return settings, tuple(rows)


def layout_of(cells: Sequence[Cell], rows: Sequence[np.ndarray]) -> Layout:
    """What settings share within a seed: their budget, and whether and how they replay.

    Noise may differ between budgets, and between these kinds of run at one budget. `rows` are the
    settings of every cell (`distinct_settings`).
    """
    shared: dict[int, tuple[int, str]] = {}
    for cell, own in zip(cells, rows, strict=True):
        what = f"{cell.key.protocol} {cell.key.replay_fraction > 0}"
        shared |= {place: (cell.key.target_tokens, what) for place in own.tolist()}
    places = sorted(shared)
    _, budget = np.unique([shared[place][0] for place in places], return_inverse=True)
    _, kind = np.unique([shared[place][1] for place in places], return_inverse=True)
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
        if len({_runs(cells[index]) for index in found}) > 1:
            names = "; ".join(describe(cells[index].key) for index in found[:3])
            raise UserError(
                f"{len(found)} groups of runs claim to be the reference at {budget:,} target "
                f"tokens ({names}); analyse them apart, narrow the reference (analysis.reference, "
                "--reference), or list what differs as tuned"
            )
    return places, ""


def _runs(cell: Cell) -> tuple[int, ...]:
    """Which runs a cell has: those of another are the same objects, not equal ones."""
    return tuple(id(record) for each in cell.settings for record in each.records)


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


def apart_notes(
    cells: Sequence[Cell], rows: Sequence[np.ndarray], apart: np.ndarray
) -> tuple[str, ...]:
    """One line on the settings that are `apart` [K] (`uneven.Fitted`), so that someone looks.

    `rows` are the settings of every cell.
    """
    owners: dict[int, list[tuple[CellKey, Setting]]] = {}
    for cell, own in zip(cells, rows, strict=True):
        for setting, row in zip(cell.settings, own.tolist(), strict=True):
            if apart[row]:
                owners.setdefault(row, []).append((cell.key, setting))
    named = [_setting_words(*zip(*each, strict=True)) for each in owners.values()]
    if not named:
        return ()
    listed = "; ".join(named[:_MOST_NAMED])
    more = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    settings = "1 setting differ" if len(named) == 1 else f"{len(named)} settings differ"
    return (
        f"target losses of the runs of {settings} by far more than the noise of all others "
        f"explains, so their noise counts as their own; look at how they trained ({listed}{more})",
    )


def noisy_notes(cells: Sequence[Cell], rows: Sequence[np.ndarray], noise: Noise) -> tuple[str, ...]:
    """One line on the kinds of run whose noise is their own (`uneven.Fitted.noisy`).

    `rows` are the settings of every cell.
    """
    if noise.fitted is None or not noise.fitted.noisy.any():
        return ()
    noisy, deviation = noise.fitted.noisy, np.sqrt(noise.own)
    kinds = {
        f"{deviation[row]:.3f} nat of {_kind(cell.key)}": None
        for cell, own in zip(cells, rows, strict=True)
        for row in own.tolist()
        if noisy[row]
    }
    listed = [*kinds][:_MOST_NAMED]
    if len(kinds) > _MOST_NAMED:
        listed.append(f"{len(kinds) - _MOST_NAMED} more kinds")
    others = np.median(deviation[~noisy & ~noise.fitted.apart])
    some = "1 kind differ" if len(kinds) == 1 else f"{len(kinds)} kinds differ"
    return (
        f"target losses of runs of {some} between seeds by far more than those of all others, so "
        f"their noise counts as their own (standard deviations: {'; '.join(listed)}; "
        f"{others:.3f} nat of all others)",
    )


def _kind(key: CellKey) -> str:
    """What runs are whose noise is taken to be alike (`layout_of`), in words."""
    if key.protocol == "uniform":
        what = "constant mixtures"
    else:
        what = f"{key.protocol} {'with' if key.replay_fraction > 0 else 'without'} replay"
    return f"{what}, {key.target_tokens:,} target tokens"


def _setting_words(keys: Sequence[CellKey], settings: Sequence[Setting]) -> str:
    """A setting in words, with its losses; axes that tell apart cells which share it are left out.

    Runs without replay are those of every source that could have been replayed.
    """
    axes = tuple(axis for axis in keys[0].axes if all(axis in key.axes for key in keys))
    tuned = "".join(
        f", {name.rpartition('.')[2].replace('_', ' ')} {text(value)}"
        for name, value in settings[0].tuned
    )
    losses = ", ".join(f"{x:.3f}" for x in settings[0].target if np.isfinite(x))
    return f"{describe(replace(keys[0], axes=axes))}{tuned}: {losses}"
