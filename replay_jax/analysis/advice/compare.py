"""The recommended schedule against those that do not replay: usual, and best of all.

Both sides of a comparison were picked for being best of several, so both were lucky. The number
that is told, and its interval, are freed of that: each side is drawn towards what it was picked
from, by as much as that differs by chance (`noise/shrinkage.py`).

Shape legend: R resamples.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from replay_jax.analysis.advice.cost import cost_at_best, generic_cost
from replay_jax.analysis.noise.conditional import conditional_interval
from replay_jax.analysis.noise.shrinkage import Family, shrink
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.statistics.equivalents import equivalents, ratio
from replay_jax.analysis.study.comparisons import difference
from replay_jax.analysis.study.groups import CellKey, recipe
from replay_jax.analysis.study.selection import competes, knob_words
from replay_jax.analysis.study.study import CellResult, TargetStudy, replays

_MOST_NAMED = 4


@dataclass(frozen=True)
class _Picked:
    """Target losses [2] of either side's best without luck, and resamples of them [R, 2]."""

    losses: np.ndarray
    drawn: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """The best schedule that replays against one that does not.

    `against` indexes TargetStudy.cells; `words` name it. `gain`: its target loss less that of the
    schedule, nats per token, without the luck of having been picked, which `measured` still has;
    `given_picks`: the same by an interval that holds however schedules differ, and is wider;
    `multiplier`: the same in target data, None without a reference law;
    `generic_cost`: the schedule's generic loss less its own at as many target epochs, None where
    nobody measured it; `cost_at_best`: the same with each at its own best setting. The two are one
    where the other side did not run at the schedule's `epochs` (the schedule's, the other's best).
    `alternatives`: how many cells it was picked from.
    """

    against: int
    words: str
    gain: Interval
    given_picks: Interval
    measured: float
    multiplier: Interval | None
    generic_cost: Interval | None
    cost_at_best: Interval | None
    epochs: tuple[float, float]
    alternatives: int

    @property
    def rests_on_others(self) -> bool:
        """Whether the gain has a sign, and has none given only that both sides were picked."""
        gain, alone = self.gain, self.given_picks
        if gain.low is None or gain.high is None or alone.low is None or alone.high is None:
            return False
        return gain.low > 0 >= alone.low or gain.high < 0 <= alone.high

    def to_json(self) -> dict[str, Any]:
        """Plain JSON object."""
        return {
            "against": self.words,
            "multiplier": None if self.multiplier is None else self.multiplier.to_json(),
            "gain_nats": self.gain.to_json(),
            "gain_given_picks_nats": self.given_picks.to_json(),
            "measured_gain_nats": self.measured,
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
    picked = _picked(found, own, others)
    return Comparison(
        against=against,
        words=recipe(cells[against].key) + knob_words(cells[against].key, cells[best].key),
        gain=_gain(found, picked),
        given_picks=_given_picks(found, own, others),
        measured=cells[against].chosen.target_loss - cells[best].chosen.target_loss,
        multiplier=_multiplier(found, picked, best, against),
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


def not_run(found: TargetStudy, best: int, others: Sequence[int]) -> tuple[str, ...]:
    """Kinds of schedule that could have been among the rivals `others` of `best`, in words.

    Going on from a finished model has neither: its replay is a mixture all along, and no target
    data can come before.
    """
    if found.cells[best].key.protocol == "continual":
        return ()
    cells: list[CellResult] = [found.cells[i] for i in others]
    lacking = []
    if not any(cell.key.protocol == "uniform" for cell in cells):
        lacking.append("constant mixture")
    staged = {cell.key.allocation for cell in cells if cell.key.protocol != "uniform"}
    if len(staged) < 2:
        lacking.append("earlier allocation without replay")
    return tuple(lacking)


def incomparable(found: TargetStudy) -> str:
    """Nothing can be recommended, and why: no budget has both sides, or only of other kinds."""
    sides: dict[bool, list[CellKey]] = {True: [], False: []}
    for cell in found.cells:
        if cell.key.protocol != "uniform":
            sides[replays(cell)].append(cell.key)
    budgets = {side: {key.target_tokens for key in keys} for side, keys in sides.items()}
    both = budgets[True] & budgets[False]
    runs, fix = "runs", "add the missing runs"
    if both:
        runs = "runs of one kind"
        there = f"at {min(both):,} target tokens, with replay: "
        there += "; without: ".join(_kinds(sides[side], min(both)) for side in (True, False))
        fix = "give runs that are to be compared one protocol and equal axes, or " + fix
    elif not any(sides.values()):
        there = "all are constant mixtures"
    else:
        there = "target tokens of runs with replay: "
        there += "; without: ".join(
            _few(map("{:,}".format, sorted(budgets[s]))) for s in (True, False)
        )
    return (
        f"nothing can be recommended for {found.target}: no budget has {runs} both with replay and "
        f"at replay_fraction 0 ({there}); {fix}"
    )


def _kinds(keys: Sequence[CellKey], target_tokens: int) -> str:
    """What tells the groups of runs at a budget apart, in words."""
    kinds = {
        f"the protocol {key.protocol!r}" + "".join(f", {name} {value}" for name, value in key.axes)
        for key in keys
        if key.target_tokens == target_tokens
    }
    return _few(sorted(kinds), " / ")


def _few(words: Iterable[str], between: str = ", ") -> str:
    """The first of several words, and how many more there are."""
    listed = list(words)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return (between.join(listed[:_MOST_NAMED]) or "none") + more


def _picked(found: TargetStudy, own: Sequence[int], others: Sequence[int]) -> _Picked:
    """The best of either side, freed of the luck of having been picked from it."""
    ours, theirs = _family(found, own), _family(found, others)
    losses = np.array([cell.chosen.target_loss for cell in found.cells]) + found.draws.luck
    shrunk = shrink(losses, found.draws.target, (ours, theirs))
    best, against = best_of(found, own), best_of(found, others)
    places = [ours.members.index(best), len(own) + theirs.members.index(against)]
    return _Picked(losses[[best, against]] + shrunk.moved[places], shrunk.drawn[:, places])


def _family(found: TargetStudy, cells: Sequence[int]) -> Family:
    """Cells with what they share."""
    shared = (_factors(found.cells[i].key) for i in cells)
    return Family(tuple(cells), tuple(zip(*shared, strict=True)))


def _factors(key: CellKey) -> tuple[str, str, str]:
    """Fraction, allocation and protocol; a constant mixture has no stages to tell them of."""
    if key.protocol == "uniform":
        return key.protocol, key.protocol, key.protocol
    return f"{key.replay_fraction:g}", f"{key.allocation:g}", key.protocol


def _gain(found: TargetStudy, picked: _Picked) -> Interval:
    """Target loss of the other side's best less that of the own, nats."""
    value = float(picked.losses[1] - picked.losses[0])
    drawn = picked.drawn[:, 1] - picked.drawn[:, 0]
    return difference(value, drawn, spread=found.noise is not None, level=found.level)


def _given_picks(found: TargetStudy, own: Sequence[int], others: Sequence[int]) -> Interval:
    """The same, given that either was picked; the luck of tuned values is no part of that."""
    if found.noise is None:
        return Interval(None, None, None, note="seed noise unknown")
    cells = [*own, *others]
    losses = np.array([found.cells[i].chosen.target_loss for i in cells])
    held = conditional_interval(losses, found.draws.target[:, cells], len(own), level=found.level)
    luck = found.draws.luck
    tuned = float(luck[best_of(found, others)] - luck[best_of(found, own)])
    return Interval(held.value + tuned, held.low + tuned, held.high + tuned)


def _multiplier(found: TargetStudy, picked: _Picked, best: int, against: int) -> Interval | None:
    """Equivalent target data of the own best over that of the other side's.

    Where a loss lies on the curve is said of the measured one: to free the baseline of luck may
    move it past the last reference point, which it is itself.
    """
    curve = found.curve
    top, bottom = (found.cells[i].equivalent_tokens for i in (best, against))
    if curve is None or top is None or bottom is None:
        return None
    freed = equivalents(curve, picked.losses, picked.drawn)
    worth = ratio(curve, freed, 0, 1, level=found.level)
    if worth.value is None:
        return worth
    parts = {"numerator": top, "denominator": bottom}
    notes = [f"{part}: {amount.note}" for part, amount in parts.items() if amount.note]
    return replace(
        worth, extrapolated=top.extrapolated or bottom.extrapolated, note="; ".join(notes)
    )
