"""From a study to a schedule: which replay fraction, what it is worth, what it costs, what next.

The answer is the best tuned cell of the sweep; that it was picked for being best is part of the
intervals: without that, "replay helps" was said in 11 to 26 % of simulated sweeps where it did not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.advice.compare import Comparison, best_of, compare, not_run, rivals
from replay_jax.analysis.advice.next_runs import NextRuns, plan_next_runs
from replay_jax.analysis.advice.training import Training, training
from replay_jax.analysis.advice.verdict import judge
from replay_jax.analysis.advice.wording import HURTS, cautions, sentence
from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.statistics.components import Component
from replay_jax.analysis.study.study import (
    Study,
    TargetStudy,
    replays,
)
from replay_jax.errors import UserError


@dataclass(frozen=True)
class Recommendation:
    """What to do at one budget of one target, and how sure that is.

    replay_fraction: the best one sampled, with the range that cannot be told from it; an end that
      the sweep does not bound is None.
    multiplier: target data efficiency of the best replay schedule over the best schedule that does
      not replay (`rival`); None without a reference law. gain: the same in nats of target loss.
    generic_cost: generic loss of that schedule minus the rival's, nats (negative: it forgets less).
    usual: the same schedule against the usual recipe, all target data at the end.
    lacking: kinds of schedule without replay that were not run, so that the rival may not be the
      best there is.
    training: how much longer the schedule was trained than the rival ever was.
    verdict: HELPS, HURTS or UNCLEAR, on the gain over the rival; reasons: why, and what to beware
      of, one sentence each.
    overrides: those of the recommended runs, without the seed.
    """

    target: str
    target_tokens: int
    replay_fraction: Interval
    allocation: Interval
    target_epochs: float
    multiplier: Interval | None
    gain: Interval
    generic_cost: Interval
    verdict: str
    sentence: str
    reasons: tuple[str, ...]
    overrides: Mapping[str, Any]
    next_runs: tuple[NextRuns, ...]
    best: int  # index into TargetStudy.cells
    baseline: int  # the rival's
    rival: Comparison
    usual: Comparison
    lacking: tuple[str, ...]
    training: Training | None
    components: tuple[Component, ...]
    level: float

    def to_json(self) -> dict[str, Any]:
        """JSON object of `replay-jax recommend --json`."""
        return {
            "target": self.target,
            "target_tokens": self.target_tokens,
            "replay_fraction": self.replay_fraction.to_json(),
            "allocation": self.allocation.value,
            "allocation_interval": [self.allocation.low, self.allocation.high],
            "target_epochs": self.target_epochs,
            "multiplier": None if self.multiplier is None else self.multiplier.to_json(),
            "gain_nats": self.gain.to_json(),
            "generic_cost_nats": self.generic_cost.value,
            "generic_cost_interval": [self.generic_cost.low, self.generic_cost.high],
            "against": self.rival.words,
            "usual": self.usual.to_json(),
            "not_run": list(self.lacking),
            "training": None if self.training is None else self.training.to_json(),
            "noise": [component.to_json() for component in self.components],
            "verdict": self.verdict,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "overrides": dict(self.overrides),
            "next_runs": [option.to_json() for option in self.next_runs],
            "level": self.level,
        }


def recommend(
    study: Study, *, target: str | None = None, target_tokens: int | None = None
) -> Recommendation:
    """Recommend a schedule for one target and budget.

    Without `target_tokens` the budget with the most replay cells is taken (of several, the
    smallest). Of several protocols or further axes the one with the most replay cells is taken.

    Raises:
      UserError: unknown target or budget, or no budget where replay can be compared with its
        absence.
    """
    found = study.target(target)
    members = _members(found, target_tokens)
    cells = found.cells
    replaying = [i for i in members if replays(cells[i])]
    best = best_of(found, replaying)
    others = rivals(found, best)
    rival = compare(found, replaying, others)
    usual = compare(found, replaying, [i for i in members if cells[i].is_baseline])
    longer = training(cells[best], cells[rival.against])
    verdict, reasons = judge(found, best, rival)
    shown = rival.against if verdict == HURTS else best
    lacking = not_run(found, others)
    fraction = _fraction_range(found, members, shown)
    return Recommendation(
        target=found.target,
        target_tokens=cells[best].key.target_tokens,
        replay_fraction=fraction,
        allocation=_allocation_range(found, members, shown),
        target_epochs=cells[shown].chosen.target_epochs,
        multiplier=rival.multiplier,
        gain=rival.gain,
        generic_cost=rival.generic_cost,
        verdict=verdict,
        sentence=sentence(
            cells[best],
            allocation_swept=len({cells[i].key.allocation for i in members}) > 1,
            verdict=verdict,
            fraction=fraction,
            rival=rival,
            usual=usual,
            lacking=lacking,
            longer=longer,
            level=found.level,
        ),
        reasons=reasons + cautions(found, members, best, rival, usual),
        next_runs=plan_next_runs(found, members=members, best=best, baseline=rival.against),
        best=best,
        baseline=rival.against,
        rival=rival,
        usual=usual,
        lacking=lacking,
        training=longer,
        components=found.components,
        level=found.level,
        overrides=cells[shown].chosen.overrides,
    )


def _members(found: TargetStudy, target_tokens: int | None) -> list[int]:
    """Cells of the group to recommend from: one budget, protocol and axes, with its baseline."""
    groups: dict[tuple[int, str, tuple[tuple[str, str], ...]], list[int]] = {}
    for index, cell in enumerate(found.cells):
        key = cell.key
        if key.protocol != "uniform":
            groups.setdefault((key.target_tokens, key.protocol, key.axes), []).append(index)
    usable = {
        place: members
        for place, members in groups.items()
        if any(found.cells[i].is_baseline for i in members)
        and any(replays(found.cells[i]) for i in members)
    }
    if not usable:
        raise UserError(
            f"target {found.target!r} has no budget with runs both with and without replay "
            "(replay_fraction 0), so nothing can be recommended; add the missing ones to the sweep"
        )
    if target_tokens is not None:
        budgets = sorted({place[0] for place in usable})
        usable = {place: found_ for place, found_ in usable.items() if place[0] == target_tokens}
        if not usable:
            listed = ", ".join(f"{budget:,}" for budget in budgets)
            raise UserError(
                f"no replay was compared at {target_tokens:,} target tokens; it was at {listed}"
            )

    def size(place: tuple[int, str, tuple[tuple[str, str], ...]]) -> tuple[int, int]:
        replaying = sum(replays(found.cells[i]) for i in usable[place])
        return (-replaying, place[0])

    return usable[min(usable, key=size)]


def _fraction_range(found: TargetStudy, members: list[int], shown: int) -> Interval:
    """The best rho with all that cannot be told from it: up to half-way to the next one sampled."""
    fractions = np.array([found.cells[i].key.replay_fraction for i in members])
    value = found.cells[shown].key.replay_fraction
    if found.noise is None:
        return Interval(value, None, None, note="seed noise unknown")
    drawn = fractions[found.draws.target[:, members].argmin(axis=1)]
    low, high = interval(drawn, level=found.level)
    low, high = min(low, value), max(high, value)
    sampled = np.unique(fractions)
    below, above = sampled[sampled < low], sampled[sampled > high]
    notes = []
    if len(above):
        top: float | None = _between(high, float(above[0]))
    else:
        top = None
        notes.append(f"no replay fraction above {high:g} was sampled")
    bottom = _between(float(below[-1]), low) if len(below) else low
    return Interval(value, bottom, top, note="; ".join(notes))


def _between(low: float, high: float) -> float:
    """The replay fraction half-way in -ln(1 - rho)."""
    return float(1 - np.sqrt((1 - low) * (1 - high)))


def _allocation_range(found: TargetStudy, members: list[int], shown: int) -> Interval:
    allocations = np.array([found.cells[i].key.allocation for i in members])
    value = found.cells[shown].key.allocation
    if len(set(allocations)) == 1:
        return Interval(value, value, value, note="one allocation was run")
    if found.noise is None:
        return Interval(value, None, None, note="seed noise unknown")
    drawn = allocations[found.draws.target[:, members].argmin(axis=1)]
    low, high = interval(drawn, level=found.level)
    return Interval(value, min(low, value), max(high, value))
