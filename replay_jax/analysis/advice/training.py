"""Whether a schedule that replays was trained longer than what it is compared with.

Longer training lowers the loss whatever the data, so a gain is replay's only where the other side
was given as much: where one of its settings was trained as long, whether or not that was its best.
FLOPs decide where records have them, steps elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from replay_jax.analysis.study.study import CellResult, SettingResult

_SAME = 0.01  # relative: rounding to whole steps
EPOCHS = "schedule.target_epochs"


@dataclass(frozen=True)
class Training:
    """How much longer the best setting of one cell was trained than any setting of another."""

    unit: str  # "steps" or "FLOPs"
    own: float
    other: float

    @property
    def ratio(self) -> float:
        """Own training over the longest of the other's."""
        return self.own / self.other

    @property
    def longer(self) -> bool:
        """Whether the other was never given as much."""
        return self.ratio > 1 + _SAME

    @property
    def words(self) -> str:
        """The ratio with both numbers."""
        return f"{self.ratio:.1f} times the {self.unit} ({self.own:,.4g} against {self.other:,.4g})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON object."""
        return {
            "unit": self.unit,
            "own": self.own,
            "longest_without_replay": self.other,
            "ratio": self.ratio,
        }


def training(own: CellResult, other: CellResult) -> Training | None:
    """Compare the best setting of `own` with all settings of `other`; None: not recorded."""
    for unit, of in (("FLOPs", _flops), ("steps", _steps)):
        mine, theirs = of(own.chosen), [of(setting) for setting in other.settings]
        known = [length for length in theirs if length is not None]
        if mine is not None and len(known) == len(theirs):
            return Training(unit, mine, max(known))
    return None


def as_long(cell: CellResult, ratio: float) -> Mapping[str, Any] | None:
    """Overrides of the cell's best setting with epochs that train it `ratio` times as long.

    None where its epochs are not what decides its length.
    """
    overrides, chosen = cell.chosen.overrides, cell.chosen
    lengths = {s.target_epochs: s.steps for s in cell.settings}
    if EPOCHS not in overrides or (len(lengths) > 1 and len(set(lengths.values())) == 1):
        return None
    longest = max(lengths)
    epochs = longest * ratio if len(lengths) > 1 else chosen.target_epochs * ratio
    return {**overrides, EPOCHS: float(round(epochs)) if epochs >= 1 else epochs}


def _flops(setting: SettingResult) -> float | None:
    return setting.flops


def _steps(setting: SettingResult) -> float | None:
    return setting.steps
