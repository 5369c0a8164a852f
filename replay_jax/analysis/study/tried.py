"""Runs that only chose settings: they are not compared, but they say what was tried.

A study within a budget compares few of its runs, as one that was tried on one seed could be the
best by luck. What they answer all the same: how far a grid was tuned, and which schedules were
dropped, after how many runs and how near to what is compared.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.runs.records import AnalysisConfig, find, fraction_words
from replay_jax.analysis.study.groups import Cell, CellKey, Setting, describe, group_records
from replay_jax.analysis.study.study import (
    CellResult,
    Dropped,
    SettingResult,
    TargetStudy,
    replays,
)

_MOST_NAMED = 3


@dataclass(frozen=True)
class Tried:
    """Of one target: `beside[i]` are further settings of cell i, `dropped` cells without a run
    that is compared.
    """  # fmt: skip

    beside: tuple[tuple[Setting, ...], ...]
    dropped: tuple[Cell, ...]


def tried_beside(
    cells: Sequence[Cell],
    target: str,
    records: Sequence[Mapping[str, Any]],
    left_out: Sequence[Mapping[str, Any]],
    config: AnalysisConfig,
) -> Tried:
    """Settings of one target of which no run is compared, each with the cell that it belongs to.

    They are grouped together with the runs compared, so that a key which only they vary tells them
    apart.

    Raises:
        UserError: as `group_records`.
    """
    wanted = [r for r in left_out if str(r["target"]) == target]
    if not wanted:
        return Tried(((),) * len(cells), ())
    owner = {str(r["id"]): i for i, c in enumerate(cells) for s in c.settings for r in s.records}
    beside: list[list[Setting]] = [[] for _ in cells]
    dropped = []
    compared = [r for r in records if str(r["target"]) == target]
    for cell in group_records([*compared, *wanted], config)[0].cells:
        owners = [owner.get(str(s.records[0]["id"])) for s in cell.settings]
        others = tuple(
            s for s in cell.settings if not any(str(r["id"]) in owner for r in s.records)
        )
        own = next((i for i in owners if i is not None), None)
        if own is not None:
            beside[own] += others
        elif others:
            dropped.append(Cell(cell.key, others, cell.is_reference))
    return Tried(tuple(map(tuple, beside)), tuple(dropped))


def beside(found: TargetStudy, key: CellKey) -> tuple[Dropped, ...]:
    """Dropped schedules of the protocol, budget and axes of a cell."""
    place = (key.protocol, key.target_tokens, key.axes)
    return tuple(
        one
        for one in found.dropped
        if (one.key.protocol, one.key.target_tokens, one.key.axes) == place
    )


def dropped_words(one: Dropped, cells: Sequence[CellResult]) -> str:
    """A schedule that was dropped, after how many runs, and how near it came to what is compared.

    Compared with the best that replays, or that does not, as it does, at the same tuned values
    where those were run.
    """
    runs = sum(len(setting.run_ids) for setting in one.settings)
    words = f"{describe(one.key)} (dropped after {runs} run{'' if runs == 1 else 's'}"
    rivals = [cell for cell in cells if _competes(cell, one.key)]
    if rivals:
        best = min(rivals, key=lambda cell: cell.chosen.target_loss)
        words += _distance(one, best)
    return f"{words})"


def _distance(one: Dropped, best: CellResult) -> str:
    """Its nearest setting against the best cell, over the seeds that both have; or nothing."""
    gaps = []
    for setting in one.settings:
        same = [s for s in best.ever if s.tuned == setting.tuned]
        other = same[0] if same else best.chosen
        gap = setting.target_by_seed - other.target_by_seed
        if np.isfinite(gap).any():
            gaps.append((float(np.nanmean(gap)), "the same setting" if same else "the best"))
    if not gaps:
        return ""
    gap, which = min(gaps)
    fraction = "" if not replays(best) else f" of ρ = {fraction_words(best.key.replay_fraction)}"
    return f", {gap:+z.3f} nat against {which}{fraction} on the same seeds"


def _competes(cell: CellResult, key: CellKey) -> bool:
    same = (cell.key.target_tokens, cell.key.axes) == (key.target_tokens, key.axes)
    return same and replays(cell) == (key.protocol != "uniform" and key.replay_fraction > 0)


def tuning_notes(cells: Sequence[Cell], tried: Tried, config: AnalysisConfig) -> tuple[str, ...]:
    """Say which tuned keys were not tuned after all, and which on runs that are not compared."""
    if not config.tuned:
        return ("nothing was tuned: comparisons hold at the swept settings only",)
    notes = []
    for position, name in enumerate(config.tuned):
        single = [c for c in cells if len(_values(c.settings, position)) == 1]
        never = [
            cell
            for cell, others in zip(cells, tried.beside, strict=True)
            if len(_values((*cell.settings, *others), position)) == 1
        ]
        if len(never) == len(cells):
            notes.append(f"{name} was not tuned: every group of runs has one value of it")
        elif never:
            notes.append(
                f"{name} was not tuned in {len(never)} of {len(cells)} groups of runs, e.g. "
                f"{describe(never[0].key)}"
            )
        if len(never) < len(single):
            notes.append(
                f"{name} was tuned by runs that are not compared in {len(single) - len(never)} of "
                f"{len(cells)} groups of runs"
            )
    return tuple(notes)


def dropped_notes(dropped: Sequence[Dropped], cells: Sequence[CellResult]) -> tuple[str, ...]:
    """One line on the schedules that were tried and are not compared."""
    if not dropped:
        return ()
    named = "; ".join(dropped_words(one, cells) for one in dropped[:_MOST_NAMED])
    more = len(dropped) - _MOST_NAMED
    return (f"tried and not compared: {named}" + (f"; and {more} more" if more > 0 else ""),)


def result_of(setting: Setting, seeds: tuple[int, ...]) -> SettingResult:
    """A setting that is not compared, its losses in the columns of the study's seeds."""
    by_seed = {int(r["seed"]): r["losses"] for r in setting.records}
    target, generic = (
        np.array([by_seed[s][domain] if s in by_seed else np.nan for s in seeds], dtype=float)
        for domain in ("target", "generic")
    )
    return SettingResult(
        tuned=setting.tuned,
        target_epochs=setting.target_epochs,
        target_by_seed=target,
        generic_by_seed=generic,
        target_loss=float(np.nanmean(setting.target)),
        generic_loss=float(np.nanmean(generic)) if np.isfinite(generic).any() else math.nan,
        steps=mean_of(setting, "total_steps"),
        flops=mean_of(setting, "flops"),
        run_ids=tuple(str(record["id"]) for record in setting.records),
        overrides=overrides_of(setting),
        learning_rate=learning_rate_of(setting),
    )


def mean_of(setting: Setting, field: str) -> float | None:
    """Mean of an optional field of the setting's records; None where one has none."""
    if not all(field in record for record in setting.records):
        return None
    return float(np.mean([record[field] for record in setting.records]))


def overrides_of(setting: Setting) -> dict[str, Any]:
    """Overrides of a setting's runs without the seed."""
    found = setting.records[0]["overrides"]
    return {key: value for key, value in found.items() if key not in ("seed", "name")}


def learning_rate_of(setting: Setting) -> Mapping[str, Any]:
    """The schedule of the rate in the first stage; empty where records do not say."""
    configured = {**setting.records[0], "overrides": {}}  # where a schedule may stand by its name
    found = find(configured, "schedule.learning_rate")
    return found if isinstance(found, Mapping) else {}


def _values(settings: Sequence[Setting], position: int) -> set[str]:
    return {str(setting.tuned[position][1]) for setting in settings}
