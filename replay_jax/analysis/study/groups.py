"""Result records in, groups of comparable runs out.

Runs that differ only in their seed are one setting; settings that differ only in the tuned keys
(epochs, learning rate, ...) are one cell, which is represented by its best setting.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.runs import replayed
from replay_jax.analysis.runs.records import (
    AnalysisConfig,
    allocation,
    check_losses,
    find,
    fraction_words,
    label,
    look_up,
    matches,
    replay_fraction,
    text,
)
from replay_jax.errors import UserError

# Overrides that name what a cell is already keyed by, or what is averaged over.
_KEYED = frozenset(
    {
        "name",
        "seed",
        "data_seed",
        "schedule.protocol",
        "schedule.replay_fraction",
        "schedule.stage2_steps",
        "schedule.stage2_allocation",
        "schedule.target_sequences",
        "schedule.aligned_replay_fraction",
        "data.target",
        *replayed.KEYS,
    }
)


@dataclass(frozen=True, order=True)
class CellKey:
    """What makes runs comparable but for tuning and seed.

    replay_fraction and allocation are the requested values (realised where nothing was requested),
    and 0 and 1 for a constant mixture, whose shares follow from its epochs; target_tokens is the
    unique budget; `axes` are further swept keys with their values as text, where these differ from
    what all reference runs have, and what is replayed where a study compares that (`replayed`).
    """

    target: str
    protocol: str
    target_tokens: int
    axes: tuple[tuple[str, str], ...]
    allocation: float
    replay_fraction: float


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in seed: tuned values, and losses [S] by seed.

    nan where there is no run, and in `generic` where a run's was not measured.
    """

    tuned: tuple[tuple[str, Any], ...]
    target_epochs: float
    target: np.ndarray
    generic: np.ndarray
    records: tuple[Mapping[str, Any], ...]

    @property
    def runs(self) -> int:
        """Number of finished runs."""
        return len(self.records)


@dataclass(frozen=True)
class Cell:
    """Settings of one key, which compete to be its best."""

    key: CellKey
    settings: tuple[Setting, ...]
    is_reference: bool


@dataclass(frozen=True)
class TargetGroup:
    """All cells of one target, sorted; `seeds` names the columns of every setting's losses."""

    target: str
    generic: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    missing: tuple[str, ...]


def group_records(
    records: Sequence[Mapping[str, Any]], config: AnalysisConfig
) -> tuple[TargetGroup, ...]:
    """Check all records and group them by target, cell, setting and seed.

    Raises:
      UserError: no records; a loss that is not finite; two evaluation sets for one target; two runs
        of one setting and seed; no reference run at all.
    """
    if not records:
        raise UserError("there are no finished runs to analyse")
    for record in records:
        check_losses(record)
    targets = sorted({str(record["target"]) for record in records})
    return tuple(
        _group_target(target, [r for r in records if r["target"] == target], config)
        for target in targets
    )


def _group_target(
    target: str, records: Sequence[Mapping[str, Any]], config: AnalysisConfig
) -> TargetGroup:
    evaluations = sorted({str(record["evaluation"]) for record in records})
    if len(evaluations) > 1:
        examples = [
            label(next(r for r in records if str(r["evaluation"]) == evaluation))
            for evaluation in evaluations[:2]
        ]
        raise UserError(
            f"runs of target {target!r} were evaluated on {len(evaluations)} different sets (e.g. "
            f"{examples[0]} and {examples[1]}), so their losses do not compare; analyse them "
            "apart, or let data.held_out_generic name one source that judges all"
        )
    seeds = tuple(sorted({int(record["seed"]) for record in records}))
    axes = _varying_axes(records, config)
    usual = _usual_values(records, config, axes)
    grouped: dict[tuple[CellKey, bool], dict[tuple[str, ...], list[Mapping[str, Any]]]] = {}
    for record, replays in replayed.compared_replays(records):
        constant = record["protocol"] == "uniform"
        own = tuple(
            (axis, value) for axis in axes if (value := text(find(record, axis))) != usual.get(axis)
        )
        tuned = tuple(text(look_up(record, name)) for name in config.tuned)
        choices = [own + ((replayed.AXIS, value),) for value in replays]
        for named in choices or [own]:
            key = CellKey(
                target=target,
                protocol=str(record["protocol"]),
                target_tokens=int(record["target_tokens"]),
                axes=named,
                allocation=1.0 if constant else allocation(record),
                replay_fraction=0.0 if constant else replay_fraction(record),
            )
            place = (key, matches(record, config.reference))
            grouped.setdefault(place, {}).setdefault(tuned, []).append(record)
    cells = tuple(
        Cell(
            key=key,
            settings=_settings(rows.values(), config.tuned, seeds),
            is_reference=is_reference,
        )
        for (key, is_reference), rows in sorted(grouped.items(), key=lambda item: item[0])
    )
    generics = sorted({str(record["generic"]) for record in records})
    return TargetGroup(
        target=target,
        generic=" / ".join(generics),
        seeds=seeds,
        cells=cells,
        missing=_missing(cells, seeds),
    )


def _settings(
    groups: Iterable[list[Mapping[str, Any]]], tuned: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[Setting, ...]:
    settings = []
    for rows in groups:
        losses = np.full((2, len(seeds)), np.nan)
        for record in rows:
            column = seeds.index(int(record["seed"]))
            if np.isfinite(losses[0, column]):
                raise UserError(
                    f"run {label(record)} and another share every setting and seed "
                    f"{record['seed']} but differ in something not swept; analyse them apart"
                )
            losses[0, column] = record["losses"]["target"]
            if record["losses"]["generic"] is not None:
                losses[1, column] = record["losses"]["generic"]
        settings.append(
            Setting(
                tuned=tuple((name, look_up(rows[0], name)) for name in tuned),
                target_epochs=float(rows[0]["target_epochs"]),
                target=losses[0],
                generic=losses[1],
                records=tuple(sorted(rows, key=lambda record: int(record["seed"]))),
            )
        )
    return tuple(
        sorted(settings, key=lambda setting: [_order(value) for _, value in setting.tuned])
    )


def _varying_axes(records: Sequence[Mapping[str, Any]], config: AnalysisConfig) -> tuple[str, ...]:
    """Swept keys beyond those of a cell: they split cells, so that like is compared with like."""
    swept = {key for record in records for key in record["overrides"]}
    skipped = _KEYED | set(config.tuned)
    axes = []
    for key in sorted(swept - skipped):
        # What differs only between protocols, or from the reference recipe, is already told apart.
        values: dict[tuple[str, bool], set[str]] = {}
        for record in records:
            place = (str(record["protocol"]), matches(record, config.reference))
            values.setdefault(place, set()).add(text(find(record, key)))
        found = [set().union(*values.values())] if key in config.axes else values.values()
        if any(len(each) > 1 for each in found):
            axes.append(key)
    return tuple(axes)


def _usual_values(
    records: Sequence[Mapping[str, Any]], config: AnalysisConfig, axes: Sequence[str]
) -> dict[str, str]:
    """Values of axes that all reference runs share: they go without saying."""
    usual = {}
    for axis in axes:
        shared = {text(find(r, axis)) for r in records if matches(r, config.reference)}
        if len(shared) == 1:
            usual[axis] = shared.pop()
    return usual


def _missing(cells: Sequence[Cell], seeds: tuple[int, ...]) -> tuple[str, ...]:
    """Runs that the rest of the sweep leads one to expect, in words."""
    lines = []
    for cell in cells:
        for setting in cell.settings:
            absent = [str(s) for s, loss in zip(seeds, setting.target, strict=True) if loss != loss]
            if absent:
                tuned = "".join(f", {name} {text(value)}" for name, value in setting.tuned)
                word = "seed" if len(absent) == 1 else "seeds"
                lines.append(f"{describe(cell.key)}{tuned}: no run of {word} {', '.join(absent)}")
    siblings: dict[tuple[object, ...], list[Cell]] = {}
    for cell in cells:
        key = cell.key
        place = (key.protocol, key.target_tokens, key.axes, key.allocation, cell.is_reference)
        siblings.setdefault(place, []).append(cell)
    for group in siblings.values():
        tried = {setting.tuned for cell in group for setting in cell.settings}
        for cell in group:
            absent_settings = tried - {setting.tuned for setting in cell.settings}
            for absent_setting in sorted(absent_settings, key=str):
                if _is_bracketed(cell, absent_setting):
                    continue
                words = ", ".join(f"{name} {text(value)}" for name, value in absent_setting)
                lines.append(
                    f"{describe(cell.key)}: {words} was tried at other replay fractions only"
                )
    return tuple(lines)


def _is_bracketed(cell: Cell, absent: tuple[tuple[str, Any], ...]) -> bool:
    """Whether a value lies beyond those tried, on a side where the best is not the last tried."""
    if len(absent) != 1:
        return False
    values = [_order(setting.tuned[0][1]) for setting in cell.settings]
    means = [float(np.nanmean(setting.target)) for setting in cell.settings]
    best, value = values[means.index(min(means))], _order(absent[0][1])
    return (value > max(values) and best < max(values)) or (
        value < min(values) and best > min(values)
    )


def describe(key: CellKey) -> str:
    """A cell in words: protocol, replay fraction, allocation, budget and further axes."""
    axes = "".join(f", {name} {value}" for name, value in key.axes)
    if key.protocol == "uniform":
        return f"constant mixture, {key.target_tokens:,} target tokens{axes}"
    return (
        f"{key.protocol}, ρ = {fraction_words(key.replay_fraction)}, α = {key.allocation:g}, "
        f"{key.target_tokens:,} target tokens{axes}"
    )


def recipe(key: CellKey) -> str:
    """A schedule without replay in words, its budget and axes left out."""
    if key.protocol == "uniform":
        return "a constant mixture"
    if key.allocation == 1:
        return "the usual recipe (ρ = 0, α = 1)"
    return f"ρ = 0 with α = {key.allocation:g}"


def _order(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (0, float(value), "")
    return (1, 0.0, str(value))
