"""Which cells stand together in a table or on a line of a chart, so that like is beside like."""

from collections.abc import Sequence

from replay_jax.analysis.study.groups import CellKey
from replay_jax.analysis.study.selection import (
    group_words,
    loss_of,
    row_of,
    schedules,
)
from replay_jax.analysis.study.study import CellResult, TargetStudy, replays

CONSTANT = "constant mixture"
# A table shows every cell of its baseline up to so many; beyond, one for each replay fraction.
_ALL_CELLS = 12


def against_baselines(study: TargetStudy) -> list[tuple[CellResult, tuple[CellResult, ...]]]:
    """Every baseline with what is compared with it, by budget; a baseline alone is left out."""
    groups = []
    for index, cell in enumerate(study.cells):
        compared = [other for other in study.cells if other.baseline == index]
        if compared and cell.is_baseline:
            groups.append((cell, _few(compared)))
    return sorted(groups, key=lambda group: (group[0].key.target_tokens, row_of(group[0].key)))


def compared_with_nothing(study: TargetStudy) -> tuple[CellResult, ...]:
    """Cells that are neither compared, nor compared with, nor points of the reference curve."""
    used = {cell.baseline for cell in study.cells}
    return tuple(
        cell
        for index, cell in enumerate(study.cells)
        if cell.baseline is None and index not in used and not cell.is_reference
    )


def replay_lines(study: TargetStudy) -> dict[str, tuple[CellResult, ...]]:
    """A line for every allocation at which a group has several replay fractions; keys are labels.

    That of the group's best cell is the first of its group, and there even if it is alone. Budgets,
    protocols and axes are never joined by a line, and neither are allocations.
    """
    lines: dict[str, tuple[CellResult, ...]] = {}
    rows: dict[tuple[object, ...], list[CellResult]] = {}
    for cell in schedules(study):
        rows.setdefault(row_of(cell.key), []).append(cell)
    several = len({cell.key.allocation for cell in schedules(study)}) > 1
    for cells in rows.values():
        best = min(filter(replays, cells), key=loss_of, default=cells[0])
        first = best.key.allocation
        others = {cell.key.allocation for cell in cells} - {first}
        for allocation in (first, *sorted(others, reverse=True)):
            own = [cell for cell in cells if cell.key.allocation == allocation]
            label = group_words(study, best.key).replace(" target tokens", "")
            if several:
                label += f", α {allocation:g}"
            if len(own) > 1 or allocation == first:
                lines[label] = tuple(sorted(own, key=lambda cell: cell.key.replay_fraction))
    compared = {label: cells for label, cells in lines.items() if any(map(replays, cells))}
    return compared or lines


def line_of(study: TargetStudy, cell: CellResult) -> tuple[CellResult, ...]:
    """The line that holds a cell; empty if none does."""
    lines = replay_lines(study).values()
    return next((cells for cells in lines if any(each is cell for each in cells)), ())


def baselines_off_the_lines(
    study: TargetStudy, lines: Sequence[tuple[CellResult, ...]]
) -> tuple[CellResult, ...]:
    """Baselines of what the lines show that are on none of them: at another allocation."""
    shown = {id(cell) for cells in lines for cell in cells}
    found = {
        cell.baseline: study.cells[cell.baseline]
        for cells in lines
        for cell in cells
        if cell.baseline is not None and id(study.cells[cell.baseline]) not in shown
    }
    return tuple(found.values())


def protocol_words(key: CellKey) -> str:
    """A protocol in words."""
    return CONSTANT if key.protocol == "uniform" else key.protocol.replace("_", "-")


def axes_words(key: CellKey) -> str:
    """Further axes of a cell in words; empty if there are none."""
    return ", ".join(f"{name.split('.')[-1].replace('_', ' ')} {text}" for name, text in key.axes)


def _few(cells: Sequence[CellResult]) -> tuple[CellResult, ...]:
    order = sorted(cells, key=lambda c: (c.key.protocol == "uniform", c.key.replay_fraction,
                                         -c.key.allocation))  # fmt: skip
    if len(order) <= _ALL_CELLS:
        return tuple(order)
    best: dict[tuple[str, float], CellResult] = {}
    for cell in order:
        place = (cell.key.protocol, cell.key.replay_fraction)
        if place not in best or loss_of(cell) < loss_of(best[place]):
            best[place] = cell
    return tuple(best.values())
