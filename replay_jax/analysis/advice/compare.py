"""The recommended schedule against those that do not replay: usual, and best of all.

Both sides of a comparison were picked for being best of several, and both picks are counted: the
lower end of the gain takes the worst luck of whatever could have been picked on the replay side,
the upper end that on the other side.

Shape legend: R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.advice.cost import cost_at_best, generic_cost
from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.study.groups import recipe
from replay_jax.analysis.study.selection import competes, knob_words
from replay_jax.analysis.study.study import CellResult, TargetStudy, replays

# A cell that wins in fewer resamples than this could not have been picked by luck.
_CONTENDER = 0.01


@dataclass(frozen=True)
class Comparison:
    """The best schedule that replays against one that does not.

    `against` indexes TargetStudy.cells; `words` name it. `gain`: its target loss less that of the
    schedule, nats per token; `multiplier`: the same in target data, None without a reference law;
    `generic_cost`: the schedule's generic loss less its own at as many target epochs, None where
    nobody measured it; `cost_at_best`: the same with each at its own best setting. The two are one
    where the other side did not run at the schedule's `epochs` (the schedule's, the other's best).
    `alternatives`: how many cells it was picked from.
    """

    against: int
    words: str
    gain: Interval
    multiplier: Interval | None
    generic_cost: Interval | None
    cost_at_best: Interval | None
    epochs: tuple[float, float]
    alternatives: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON object."""
        return {
            "against": self.words,
            "multiplier": None if self.multiplier is None else self.multiplier.to_json(),
            "gain_nats": self.gain.to_json(),
            "generic_cost_nats": None if self.generic_cost is None else self.generic_cost.to_json(),
            "generic_cost_at_best_nats": (
                None if self.cost_at_best is None else self.cost_at_best.to_json()
            ),
            "epochs": list(self.epochs),
            "alternatives": self.alternatives,
        }


def compare(found: TargetStudy, own: Sequence[int], others: Sequence[int]) -> Comparison:
    """The best of the cells `own` against the best of `others`."""
    best, against = best_of(found, own), best_of(found, others)
    cells = found.cells
    return Comparison(
        against=against,
        words=recipe(cells[against].key) + knob_words(cells[against].key, cells[best].key),
        gain=_gain(found, best, against, own, others),
        multiplier=_multiplier(found, best, against, own, others),
        generic_cost=generic_cost(found, best, against),
        cost_at_best=cost_at_best(found, best, against),
        epochs=(cells[best].chosen.target_epochs, cells[against].chosen.target_epochs),
        alternatives=len(others),
    )


def best_of(found: TargetStudy, cells: Sequence[int]) -> int:
    """The cell of least target loss."""
    return min(cells, key=lambda i: found.cells[i].chosen.target_loss)


def rivals(found: TargetStudy, best: int) -> list[int]:
    """Cells that compete with `best` without replay in a second stage: all but `KNOBS` equal.

    Its own protocol at replay fraction 0, whatever the allocation, and constant mixtures.
    """
    key = found.cells[best].key
    return [
        i for i, cell in enumerate(found.cells) if competes(cell.key, key) and not replays(cell)
    ]


def not_run(found: TargetStudy, others: Sequence[int]) -> tuple[str, ...]:
    """Kinds of schedule without replay that the sweep lacks, in words."""
    cells: list[CellResult] = [found.cells[i] for i in others]
    lacking = []
    if not any(cell.key.protocol == "uniform" for cell in cells):
        lacking.append("constant mixture")
    staged = {cell.key.allocation for cell in cells if cell.key.protocol != "uniform"}
    if len(staged) < 2:
        lacking.append("earlier allocation without replay")
    return tuple(lacking)


def _unlucky(found: TargetStudy, cells: Sequence[int], best: int) -> np.ndarray:
    """Resampled loss [R] of the best of the cells if its place were won by luck, in nats.

    Of several cells about as good, the one with the best luck is picked. Its deviation is taken to
    be the worst of all that could have been picked (one-sided simultaneous bound over those that
    win in at least 1 % of the resamples), so that the end of an interval keeps its level.
    """
    drawn = found.draws.target[:, list(cells)]
    observed = np.array([found.cells[i].chosen.target_loss for i in cells])
    shares = np.bincount(drawn.argmin(axis=1), minlength=len(cells)) / len(drawn)
    contenders = (shares >= _CONTENDER) | (np.array(cells) == best)
    worst: np.ndarray = observed.min() + (drawn - observed)[:, contenders].max(axis=1)
    return worst


def _gain(
    found: TargetStudy, best: int, against: int, own: Sequence[int], others: Sequence[int]
) -> Interval:
    """Target loss of `against` less that of `best`, nats."""
    cells, drawn = found.cells, found.draws.target
    value = cells[against].chosen.target_loss - cells[best].chosen.target_loss
    if found.noise is None:
        return Interval(value, None, None, note="seed noise unknown")
    low, _ = interval(drawn[:, against] - _unlucky(found, own, best), level=found.level)
    _, high = interval(_unlucky(found, others, against) - drawn[:, best], level=found.level)
    return Interval(value, min(low, value), max(high, value))


def _multiplier(
    found: TargetStudy, best: int, against: int, own: Sequence[int], others: Sequence[int]
) -> Interval | None:
    """Equivalent target data of `best` over that of `against`."""
    curve, drawn = found.curve, found.draws.log_equivalent
    top, bottom = (found.cells[i].equivalent_tokens for i in (best, against))
    if curve is None or drawn is None or top is None or bottom is None:
        return None
    unlucky, harder = (
        curve.resampled.log_equivalent(_unlucky(found, members, pick)[:, None])[:, 0]
        for members, pick in ((own, best), (others, against))
    )
    with np.errstate(invalid="ignore", over="ignore"):
        low, _ = np.exp(interval(unlucky - drawn[:, against], level=found.level))
        _, high = np.exp(interval(drawn[:, best] - harder, level=found.level))
    notes = [f"{name}: {part.note}" for name, part in (("numerator", top), ("denominator", bottom))
             if part.note]  # fmt: skip
    value = None
    if top.value is not None and bottom.value is not None:
        value = top.value / bottom.value
        low, high = min(low, value), max(high, value)
    return Interval(
        value=value,
        low=float(low) if np.isfinite(low) else None,
        high=float(high) if np.isfinite(high) else None,
        extrapolated=top.extrapolated or bottom.extrapolated,
        note="; ".join(notes),
    )
