"""How far a budgeted study is: its looks, and the results of the runs they chose."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from replay_jax.analysis.budget.planned import Grid, PlannedSetting

Record = Mapping[str, Any]
Place = tuple[int, int]  # cell, setting


@dataclass(frozen=True)
class Look:
    """Runs that were added together.

    kept: the settings compared from here on; empty: as before. spent: cost so far.
    """

    why: str
    runs: tuple[str, ...]
    kept: tuple[Place, ...]
    spent: float


@dataclass(frozen=True)
class State:
    """The looks so far, and by id the results of the runs that they chose."""

    grid: Grid
    looks: tuple[Look, ...] = ()
    known: Mapping[str, Record] = field(default_factory=dict)

    @functools.cached_property
    def chosen(self) -> tuple[str, ...]:
        """Ids of all runs of all looks."""
        return tuple(run for look in self.looks for run in look.runs)

    @functools.cached_property
    def kept(self) -> tuple[Place, ...]:
        """Settings that the study compares."""
        return next((look.kept for look in reversed(self.looks) if look.kept), ())

    @functools.cached_property
    def tried(self) -> frozenset[Place]:
        """Settings with a run."""
        chosen = set(self.chosen)
        return frozenset(
            (c, s)
            for c, cell in enumerate(self.grid.cells)
            for s, setting in enumerate(cell.settings)
            if chosen.intersection(setting.runs)
        )

    @property
    def seeds(self) -> int:
        """The most runs that a setting of the comparison has."""
        chosen = set(self.chosen)
        counts = [sum(run in chosen for run in self.setting(p).runs) for p in self.kept]
        return max(counts, default=0)

    @property
    def references(self) -> tuple[int, ...]:
        """Reference cells with a run."""
        opened = {c for c, _ in self.tried}
        return tuple(
            c for c, cell in enumerate(self.grid.cells) if cell.is_reference and c in opened
        )

    def setting(self, place: Place) -> PlannedSetting:
        """The planned setting of a place."""
        return self.grid.cells[place[0]].settings[place[1]]

    def loss(self, place: Place) -> float:
        """Target loss of a setting's first run, infinite where there is none."""
        record = self.known.get(self.setting(place).runs[0])
        return math.inf if record is None else float(record["losses"]["target"])

    def best(self, cell: int) -> Place:
        """The setting of a cell that was best on its first seed."""
        return min(self.grid.places(cell), key=self.loss)

    def change(self, place: Place) -> float | None:
        """Loss of a setting's second run less that of its first; None unless there are both."""
        first, *others = self.setting(place).runs
        if first not in self.known or not others or others[0] not in self.known:
            return None
        second = self.known[others[0]]["losses"]["target"]
        return float(second - self.known[first]["losses"]["target"])


def runs_of(state: State, places: Sequence[Place]) -> tuple[str, ...]:
    """Ids of the chosen runs of settings."""
    wanted = {run for place in places for run in state.setting(place).runs}
    return tuple(run for run in state.chosen if run in wanted)
