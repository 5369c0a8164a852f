"""How the gain of replay changes along every axis that a study sweeps, nothing else changing.

A gain here is over no replay at the same allocation: what early target data does alone is no gain
of replay's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from replay_jax.analysis.advice.compare import compare
from replay_jax.analysis.runs.records import text
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.axes import ALLOCATION, axes, lines, place_of
from replay_jax.analysis.study.groups import CellKey
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
    """The best schedule that replays against none at its allocation, at one value of an axis.

    `gain` is in nats per token, `baseline_loss` minus `replay_loss`; it has no interval and
    `multiplier` is None along a tuned key, whose single values a study does not answer for.
    `gain_by_seed` are the paired differences of the seeds that both have.
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
    """The best replaying cell of every budget, protocol and further axes."""
    for own, without in _best(study, row_of):
        yield _Compared(place_of(study, study.cells[own]), _of_pair(study, own, without))


def _allocations(study: TargetStudy) -> Iterator[_Compared]:
    """The best replaying cell of every allocation."""
    for own, without in _best(study, lambda key: (row_of(key), key.allocation)):
        yield _Compared(_at_allocation(study, own), _of_pair(study, own, without))


def _best(study: TargetStudy, row: Callable[[CellKey], object]) -> Iterable[tuple[int, int]]:
    """Of the pairs of every row the one whose replay has the least target loss."""
    best: dict[object, tuple[int, int]] = {}
    for own, without in _pairs(study):
        cell = study.cells[own]
        place = row(cell.key)
        if place not in best or loss_of(cell) < loss_of(study.cells[best[place][0]]):
            best[place] = own, without
    return best.values()


def _at_allocation(study: TargetStudy, place: int) -> dict[str, str]:
    cell = study.cells[place]
    return place_of(study, cell) | {ALLOCATION: f"{cell.key.allocation:g}"}


def _pairs(study: TargetStudy) -> Iterator[tuple[int, int]]:
    """Every cell that replays with the one that differs from it in that alone, if it was run.

    Free stages, which have no replay fraction to set to 0, go with their baseline.
    """
    places = {cell.key: index for index, cell in enumerate(study.cells)}
    for index, cell in enumerate(study.cells):
        if replays(cell):
            without = places.get(replace(cell.key, replay_fraction=0.0))
            without = cell.baseline if cell.key.protocol == "stages" else without
            if without is not None:
                yield index, without


def _tuned(study: TargetStudy, key: str) -> Iterator[_Compared]:
    """At every value of a tuned key the best replay, and none, of what both ran there."""
    best: dict[tuple[object, str], tuple[int, SettingResult, SettingResult]] = {}
    for own, other in _pairs(study):
        cell = study.cells[own]
        replaying, none = (_by_value(study.cells[i], key) for i in (own, other))
        for value, settings in replaying.items():
            both = settings.keys() & none.get(value, {}).keys()
            if not both:
                continue
            setting, without = (
                min((found[value][rest] for rest in both), key=lambda each: each.target_loss)
                for found in (replaying, none)
            )
            row = ((row_of(cell.key), cell.key.allocation), value)
            if row not in best or setting.target_loss < best[row][1].target_loss:
                best[row] = own, setting, without
    for (_, value), (own, setting, without) in best.items():
        found = GainAt(
            value="",
            replay_fraction=study.cells[own].key.replay_fraction,
            baseline_loss=without.target_loss,
            replay_loss=setting.target_loss,
            gain=Interval(without.target_loss - setting.target_loss, None, None),
            gain_by_seed=_paired(without, setting),
            multiplier=None,
        )
        yield _Compared(_at_allocation(study, own) | {key: value}, found)


def _by_value(cell: CellResult, key: str) -> dict[str, dict[object, SettingResult]]:
    """The settings at every value of a tuned key, by their other tuned values."""
    found: dict[str, dict[object, SettingResult]] = {}
    for setting in cell.settings:
        told = dict(setting.tuned)
        if key in told:
            value = text(told.pop(key))
            found.setdefault(value, {})[tuple(sorted(told.items()))] = setting
    return found


def _of_pair(study: TargetStudy, own: int, without: int) -> GainAt:
    cell, other = study.cells[own], study.cells[without]
    if cell.baseline == without:
        gain, multiplier = cell.gain, cell.multiplier
    else:
        compared = compare(study, [own], [without])
        gain, multiplier = compared.gain, compared.multiplier
    assert gain is not None
    return GainAt(
        value="",
        replay_fraction=cell.key.replay_fraction,
        baseline_loss=loss_of(other),
        replay_loss=loss_of(cell),
        gain=gain,
        gain_by_seed=_paired(other.chosen, cell.chosen),
        multiplier=multiplier,
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
