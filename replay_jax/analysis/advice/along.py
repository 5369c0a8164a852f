"""How the gain of replay changes along every axis that a study sweeps, nothing else changing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay_jax.analysis.runs.records import text
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.axes import ALLOCATION, axes, lines, place_of
from replay_jax.analysis.study.selection import loss_of, row_of
from replay_jax.analysis.study.study import (
    CellResult,
    SettingResult,
    Study,
    TargetStudy,
    replays,
)


@dataclass(frozen=True)
class GainAt:
    """The best schedule that replays against the baseline, at one value of an axis.

    `gain` is in nats per token, baseline minus replay; it has no interval and `multiplier` is None
    along a tuned key, whose single values a study does not answer for. `gain_by_seed` are the
    paired differences of the seeds that both have.
    """

    value: str
    replay_fraction: float
    baseline_loss: float
    replay_loss: float
    gain: Interval
    gain_by_seed: tuple[float, ...]
    multiplier: Interval | None


@dataclass(frozen=True)
class Line:
    """Gains along an axis with all else equal; `label` says what else there is."""

    label: str
    gains: tuple[GainAt, ...]


@dataclass(frozen=True)
class Axis:
    """One axis of a study: its key, and a line for every choice of the other axes."""

    key: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class _Compared:
    """One comparison and where it stands on every axis; the gain's own value is set by the axis."""

    place: Mapping[str, str]
    gain: GainAt


def axes_of(study: Study) -> tuple[Axis, ...]:
    """Every axis along which at least two gains differ in nothing else.

    Values are in the order of their numbers where all are numbers, else in that of the study.
    """
    groups = [found for target in study.targets for found in _groups(target)]
    found = [
        axis
        for key, together in axes([each.place for each in groups]).items()
        if (axis := _axis(key, together, groups))
    ]
    allocations = [found for target in study.targets for found in _allocations(target)]
    if axis := _axis(ALLOCATION, frozenset({ALLOCATION}), allocations):
        found.append(axis)
    tuned = {
        key for target in study.targets for cell in target.cells for key, _ in cell.chosen.tuned
    }
    for key in sorted(tuned):
        values = [found for target in study.targets for found in _tuned(target, key)]
        if axis := _axis(key, frozenset({key}), values):
            found.append(axis)
    return tuple(found)


def _groups(study: TargetStudy) -> Iterator[_Compared]:
    """The best replaying cell of every budget, protocol and further axes, against its baseline."""
    best: dict[object, CellResult] = {}
    for cell in filter(replays, study.cells):
        row = row_of(cell.key)
        if cell.gain is not None and (row not in best or loss_of(cell) < loss_of(best[row])):
            best[row] = cell
    for cell in best.values():
        yield _Compared(place_of(study, cell), _of_cell(study, cell))


def _allocations(study: TargetStudy) -> Iterator[_Compared]:
    """The best replaying cell of every allocation, against the baseline of its group."""
    best: dict[object, CellResult] = {}
    for cell in filter(replays, study.cells):
        row = (row_of(cell.key), cell.key.allocation)
        if cell.gain is not None and (row not in best or loss_of(cell) < loss_of(best[row])):
            best[row] = cell
    for cell in best.values():
        place = place_of(study, cell) | {ALLOCATION: f"{cell.key.allocation:g}"}
        yield _Compared(place, _of_cell(study, cell))


def _tuned(study: TargetStudy, key: str) -> Iterator[_Compared]:
    """At every value of a tuned key the best replay against the best of the baseline there."""
    best: dict[tuple[object, str], tuple[CellResult, SettingResult, SettingResult]] = {}
    for cell in filter(replays, study.cells):
        if cell.baseline is None:
            continue
        base = _by_value(study.cells[cell.baseline], key)
        for value, setting in _by_value(cell, key).items():
            row = (row_of(cell.key), value)
            better = row not in best or setting.target_loss < best[row][1].target_loss
            if value in base and better:
                best[row] = cell, setting, base[value]
    for (_, value), (cell, setting, without) in best.items():
        gain = without.target_loss - setting.target_loss
        found = GainAt(
            value="",
            replay_fraction=cell.key.replay_fraction,
            baseline_loss=without.target_loss,
            replay_loss=setting.target_loss,
            gain=Interval(gain, None, None),
            gain_by_seed=_paired(without, setting),
            multiplier=None,
        )
        yield _Compared(place_of(study, cell) | {key: value}, found)


def _by_value(cell: CellResult, key: str) -> dict[str, SettingResult]:
    """The best setting at every value of a tuned key."""
    best: dict[str, SettingResult] = {}
    for setting in cell.settings:
        for name, value in setting.tuned:
            said = text(value)
            if name == key and (said not in best or setting.target_loss < best[said].target_loss):
                best[said] = setting
    return best


def _of_cell(study: TargetStudy, cell: CellResult) -> GainAt:
    assert cell.baseline is not None and cell.gain is not None
    without = study.cells[cell.baseline]
    return GainAt(
        value="",
        replay_fraction=cell.key.replay_fraction,
        baseline_loss=loss_of(without),
        replay_loss=loss_of(cell),
        gain=cell.gain,
        gain_by_seed=_paired(without.chosen, cell.chosen),
        multiplier=cell.multiplier,
    )


def _paired(without: SettingResult, replay: SettingResult) -> tuple[float, ...]:
    gains = without.target_by_seed - replay.target_by_seed
    return tuple(float(gain) for gain in gains if np.isfinite(gain))


def _axis(key: str, together: frozenset[str], groups: Sequence[_Compared]) -> Axis | None:
    """The lines along an axis that have two values or more; None if there is none."""
    shown = tuple(
        Line(label, tuple(replace(groups[i].gain, value=value) for value, i in values))
        for label, values in lines(key, together, [each.place for each in groups])
    )
    return Axis(key, shown) if shown else None
