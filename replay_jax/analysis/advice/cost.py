"""What a schedule costs in generic loss, at as much target training as what it is compared with.

More epochs of target data forget more, and which epochs are best for the target is often a near
tie: a rival that gains .01 nat at four times the epochs becomes the best, and a cost against it
moves by many times that. So a cost is first told at equal target epochs.

Shape legend: R resamples, k settings of a cell.
"""

import numpy as np

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.comparisons import difference
from replay_jax.analysis.study.study import CellResult, SettingResult, TargetStudy


def cost_at_best(found: TargetStudy, best: int, against: int) -> Interval:
    """Generic loss of cell `best` less that of `against`, nats per token, each at its own best."""
    cells, drawn = found.cells, found.draws.generic
    value = cells[best].chosen.generic_loss - cells[against].chosen.generic_loss
    return _interval(found, value, drawn[:, best] - drawn[:, against])


def generic_cost(found: TargetStudy, best: int, against: int) -> Interval:
    """The same with `against` at the epochs of `best`; `cost_at_best` where it did not run there.

    Resamples pick the setting of `best` anew, and that of `against` follows it.
    """
    own, other = found.cells[best], found.cells[against]
    beside = [_beside(setting, own, other) for setting in own.settings]
    place = beside[own.best]
    if place is None:
        return cost_at_best(found, best, against)
    of_own, of_other = (found.draws.generic_settings[i] for i in (best, against))
    first = found.draws.winner[:, best]
    places = np.array([place if p is None else p for p in beside])
    # A resample's winner that the other side did not run at gives way to the one in the data.
    picked = np.where(np.array([p is None for p in beside])[first], own.best, first)
    rows = np.arange(len(picked))
    value = own.chosen.generic_loss - other.settings[place].generic_loss
    return _interval(found, value, of_own[rows, picked] - of_other[rows, places[picked]])


def _beside(setting: SettingResult, own: CellResult, other: CellResult) -> int | None:
    """Setting of `other` with the target epochs of one of `own`; None: it has none.

    Of several the one whose other tuned values are the same too, else the best for the target.
    """
    found = [i for i, s in enumerate(other.settings) if s.target_epochs == setting.target_epochs]
    same = [i for i in found if other.settings[i].tuned == setting.tuned]
    return min(same or found, key=lambda i: other.settings[i].target_loss, default=None)


def _interval(found: TargetStudy, value: float, drawn: np.ndarray) -> Interval:
    spread = found.generic_noise is not None
    return difference(value, drawn, spread=spread, level=found.level)
