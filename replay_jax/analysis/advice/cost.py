"""What a schedule costs in generic loss, at as much target training as what it is compared with.

More epochs of target data forget more, and which epochs are best for the target is often a near
tie: a rival that gains .01 nat at four times the epochs becomes the best, and a cost against it
moves by many times that. So a cost is first told at equal target epochs.

Shape legend: R resamples.
"""

import math

import numpy as np

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.comparisons import difference
from replay_jax.analysis.study.study import CellResult, TargetStudy


def cost_at_best(found: TargetStudy, best: int, against: int) -> Interval | None:
    """Generic loss of cell `best` less that of `against`, nats per token, each at its own best.

    None where that of either was not measured.
    """
    cells, drawn = found.cells, found.draws.generic
    value = cells[best].chosen.generic_loss - cells[against].chosen.generic_loss
    return _interval(found, value, drawn[:, best] - drawn[:, against])


def generic_cost(found: TargetStudy, best: int, against: int) -> Interval | None:
    """The same with `against` at the epochs of `best`; where it has none there, `cost_at_best`."""
    own, other = found.cells[best], found.cells[against]
    place = _beside(own.chosen.target_epochs, other)
    if place is None or math.isnan(other.settings[place].generic_loss):
        return cost_at_best(found, best, against)
    first, second = (found.draws.generic_settings[i] for i in (best, against))
    value = own.chosen.generic_loss - other.settings[place].generic_loss
    return _interval(found, value, first[:, own.best] - second[:, place])


def _beside(target_epochs: float, other: CellResult) -> int | None:
    """The best setting for the target of `other` at these target epochs; None: it has none.

    At its own best learning rate, or whatever else was tuned: at that of replay it may be far from
    what anybody would train.
    """
    found = [i for i, s in enumerate(other.settings) if s.target_epochs == target_epochs]
    return min(found, key=lambda i: other.settings[i].target_loss, default=None)


def _interval(found: TargetStudy, value: float, drawn: np.ndarray) -> Interval | None:
    if math.isnan(value):
        return None
    spread = found.generic_noise is not None
    return difference(value, drawn, spread=spread, level=found.level)
