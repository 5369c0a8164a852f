"""How the loss of schedules that do not replay changes along every axis of a study.

The paper tunes its baseline so: epochs, cooldown, learning rate, weight decay, one at a time. What
the best schedule that replays reaches at the same budget stands beside it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from replay_jax.analysis.runs.records import text
from replay_jax.analysis.study.axes import TOKENS, Place, axes, lines, place_of
from replay_jax.analysis.study.selection import best_replay
from replay_jax.analysis.study.study import CellResult, SettingResult, TargetStudy, replays


@dataclass(frozen=True)
class LossAt:
    """The target loss at one value of an axis, nats per token: mean over seeds, and every seed."""

    value: str
    loss: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class LossLine:
    """Losses along an axis with all else equal; `label` says what else there is."""

    label: str
    losses: tuple[LossAt, ...]

    @property
    def lowest(self) -> float:
        """The lowest of its losses."""
        return min(each.loss for each in self.losses)


@dataclass(frozen=True)
class LossAxis:
    """One axis: its key, the schedules along it in words, a line for every choice of other axes."""

    key: str
    schedules: str
    lines: tuple[LossLine, ...]


@dataclass(frozen=True)
class _Setting:
    place: Place
    found: SettingResult
    is_mixture: bool


def losses_along(study: TargetStudy, but: Collection[str]) -> tuple[LossAxis, ...]:
    """Every axis along which losses without replay differ in nothing else.

    Args:
        study: of one target.
        but: keys of axes that are left out; so are the budgets, whose losses are the reference law.
    """
    settings = list(_settings(study))
    places = [each.place for each in settings]
    found = []
    for key, together in axes(places).items():
        if together.isdisjoint({*but, TOKENS}) and (drawn := lines(key, together, places)):
            shown = (LossLine(label, _losses(settings, values)) for label, values in drawn)
            mixtures = {settings[i].is_mixture for _, values in drawn for _, i in values}
            found.append(LossAxis(key, _schedules(mixtures), tuple(shown)))
    return tuple(found)


def _schedules(are_mixtures: set[bool]) -> str:
    """A constant mixture has generic rows to its end, and no stage that replays them."""
    if are_mixtures == {True}:
        return "of constant mixtures"
    return "without a stage that replays" if True in are_mixtures else "without replay"


def best_with_replay(study: TargetStudy) -> CellResult | None:
    """What the losses are compared with: the best schedule that replays, of their one budget.

    None where nothing replays, or where the schedules without replay have several budgets.
    """
    budgets = {cell.key.target_tokens for cell in study.cells if not replays(cell)}
    return best_replay(study, budgets.pop()) if len(budgets) == 1 else None


def _settings(study: TargetStudy) -> Iterator[_Setting]:
    """Every setting that does not replay; a better one of the same place comes after the others."""
    found = []
    for cell in study.cells:
        if replays(cell):
            continue
        place = place_of(study, cell)
        is_mixture = cell.key.protocol == "uniform"
        if not is_mixture:
            place["allocation"] = f"{cell.key.allocation:g}"
        for setting in cell.settings:
            tuned = {name: text(value) for name, value in setting.tuned}
            found.append(_Setting(place | tuned, setting, is_mixture))
    yield from sorted(found, key=lambda each: -each.found.target_loss)


def _losses(settings: list[_Setting], values: tuple[tuple[str, int], ...]) -> tuple[LossAt, ...]:
    return tuple(
        LossAt(value, settings[i].found.target_loss, _by_seed(settings[i].found))
        for value, i in values
    )


def _by_seed(setting: SettingResult) -> tuple[float, ...]:
    return tuple(float(loss) for loss in setting.target_by_seed if np.isfinite(loss))
