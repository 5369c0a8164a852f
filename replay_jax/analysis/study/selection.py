"""Which cells of a study a figure or table shows, so that all of them show the same ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.study.groups import CellKey
from replay_jax.analysis.study.study import CellResult, ReplayFit, TargetStudy, replays

Records = Mapping[str, Mapping[str, Any]]
# Remedies against too many epochs that need no replay. A schedule without replay competes with one
# that replays whatever either has of these: what replay is to beat is the best that was run.
KNOBS = frozenset({"training.average_last", "training.dropout", "schedule.batch_sizes"})


def loss_of(cell: CellResult) -> float:
    """Mean held-out target loss of the cell's best setting, nats per token."""
    return cell.chosen.target_loss


def schedules(study: TargetStudy) -> tuple[CellResult, ...]:
    """All cells with a second stage; the constant mixtures are left out."""
    return tuple(cell for cell in study.cells if cell.key.protocol != "uniform")


def row_of(key: CellKey) -> tuple[str, int, tuple[tuple[str, str], ...]]:
    """What one line of a figure has in common: protocol, budget and further axes."""
    return key.protocol, key.target_tokens, key.axes


def competes(key: CellKey, own: CellKey) -> bool:
    """Whether a schedule without replay is a rival of `own`: equal budget and axes but `KNOBS`.

    Of the same protocol, or a constant mixture; of a constant mixture every one.
    """
    alike = key.target_tokens == own.target_tokens and _but_knobs(key) == _but_knobs(own)
    return alike and (own.protocol == "uniform" or key.protocol in (own.protocol, "uniform"))


def knob_words(key: CellKey, own: CellKey) -> str:
    """The knobs of a rival that are not those of `own`, as the end of its words; "" if all are."""
    theirs, ours = (dict(k.axes) for k in (key, own))
    names = sorted(KNOBS & (theirs.keys() | ours.keys()))
    words = [
        f"{short(name)} {theirs[name] if name in theirs else 'as usual'}"
        for name in names
        if theirs.get(name) != ours.get(name)
    ]
    return f" with {' and '.join(words)}" if words else ""


def _but_knobs(key: CellKey) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in key.axes if name not in KNOBS)


def group_words(study: TargetStudy, key: CellKey) -> str:
    """What tells the group of a cell from the study's other groups, in words."""
    words = [f"{key.target_tokens:,} target tokens"]
    if len({cell.key.protocol for cell in study.cells if cell.key.protocol != "uniform"}) > 1:
        words.append(key.protocol.replace("_", "-"))
    words += [f"{name.split('.')[-1].replace('_', ' ')} {value}" for name, value in key.axes]
    return ", ".join(words)


def rows_of_replay(study: TargetStudy) -> dict[str, tuple[CellResult, ...]]:
    """For every row its cells by replay fraction, each at its best allocation; keys are labels."""
    rows: dict[tuple[str, int, tuple[tuple[str, str], ...]], dict[float, CellResult]] = {}
    for cell in schedules(study):
        best = rows.setdefault(row_of(cell.key), {})
        rho = cell.key.replay_fraction
        if rho not in best or loss_of(cell) < loss_of(best[rho]):
            best[rho] = cell
    several = len({protocol for protocol, _, _ in rows}) > 1
    labels = {row: _label(row, name_protocol=several) for row in rows}
    return {labels[row]: tuple(cells[rho] for rho in sorted(cells)) for row, cells in rows.items()}


def shown_rows(study: TargetStudy) -> list[tuple[CellResult, tuple[CellResult, ...]]]:
    """For every row its best cell, and all its cells with the baseline of the best one first."""
    rows = []
    for cells in rows_of_replay(study).values():
        best = min(cells, key=loss_of)
        if best.baseline is not None:
            baseline = study.cells[best.baseline]
            if all(cell is not baseline for cell in cells):
                cells = (baseline, *cells)
        rows.append((best, cells))
    return rows


def best_replay(study: TargetStudy, tokens: int) -> CellResult | None:
    """The cell that replays with the lowest target loss at a budget; None if none replays."""
    found = [c for c in study.cells if c.key.target_tokens == tokens and replays(c)]
    return min(found, key=loss_of, default=None)


def focus_budget(study: TargetStudy) -> int | None:
    """The budget at which figures look inside runs: that of the recommendation without a wish.

    Most replaying cells that have a baseline, of several the smallest; None if there is none.
    """
    sizes: dict[int, int] = {}
    for cell in study.cells:
        if replays(cell) and cell.baseline is not None:
            tokens = cell.key.target_tokens
            sizes[tokens] = sizes.get(tokens, 0) + 1
    sizes = sizes or dict.fromkeys(study.budgets, 1)
    return min(sizes, key=lambda tokens: (-sizes[tokens], tokens), default=None)


def shown_fits(study: TargetStudy) -> dict[str, ReplayFit]:
    """For every row the quadratic fit at the allocation of its best cell; keys are labels."""
    found = {}
    fitted = (study.cells[place] for fit in study.replay_fits for place in fit.cells)
    several = len({cell.key.allocation for cell in fitted}) > 1
    for label, cells in rows_of_replay(study).items():
        best = min(cells, key=loss_of)
        for fit in study.replay_fits:
            if any(study.cells[index] is best for index in fit.cells):
                found[f"{label}, α {best.key.allocation:g}" if several else label] = fit
    return found


def records_of(cell: CellResult, records: Records) -> tuple[Mapping[str, Any], ...]:
    """The result records of a cell's best setting, one per seed."""
    return tuple(records[run] for run in cell.chosen.run_ids)


def setting_words(cell: CellResult) -> str:
    """The best setting in words: allocation, epochs, tuned values and further axes."""
    parts = [f"α {cell.key.allocation:g}", f"{cell.chosen.target_epochs:g} epochs"]
    return ", ".join([*parts, other_settings(cell)]).rstrip(", ")


def other_settings(cell: CellResult) -> str:
    """Tuned values other than epochs, and further axes, in words; empty if there are none."""
    return ", ".join(
        f"{short(name)} {value:g}" if isinstance(value, float) else f"{short(name)} {value}"
        for name, value in (*cell.chosen.tuned, *cell.key.axes)
        if not name.endswith("target_epochs")
    )


def recipe_words(cell: CellResult) -> str:
    """How a point of the reference curve was trained, in words."""
    if cell.key.protocol == "uniform":
        words = "constant mixture"
    else:
        protocol = cell.key.protocol.replace("_", "-")
        words = (
            f"{protocol}, ρ {fraction_words(cell.key.replay_fraction)}, α {cell.key.allocation:g}"
        )
    return f"{words}, {other_settings(cell)}".rstrip(", ")


def seeds_of(study: TargetStudy, losses: np.ndarray) -> list[tuple[int, float]]:
    """(seed, loss) of the seeds that were run."""
    return [(s, float(x)) for s, x in zip(study.seeds, losses, strict=True) if x == x]


def _label(row: tuple[str, int, tuple[tuple[str, str], ...]], *, name_protocol: bool) -> str:
    protocol, tokens, axes = row
    words = [f"{tokens:,}"]
    words += [f"{short(name)} {value}" for name, value in axes]
    if name_protocol:
        words.append(protocol.replace("_", "-"))
    return ", ".join(words)


def short(name: str) -> str:
    """The last part of a dotted key in words; "peak" alone would say nothing."""
    parts = name.split(".")
    last = parts[-2] if parts[-1] == "peak" and len(parts) > 1 else parts[-1]
    return last.replace("_", " ")
