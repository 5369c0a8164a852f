"""From a study to a schedule: which replay fraction, what it is worth, what it costs, what next.

The answer is the best tuned cell of the sweep; that it was picked for being best is part of the
intervals: without that, "replay helps" was said in 11 to 26 % of simulated sweeps where it did not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay_jax.analysis.advice.cautions import Caution, cautions
from replay_jax.analysis.advice.compare import (
    Comparison,
    best_of,
    compare,
    incomparable,
    not_run,
    rivals,
)
from replay_jax.analysis.advice.next_runs import NextRuns, plan_next_runs
from replay_jax.analysis.advice.opinion import Opinion
from replay_jax.analysis.advice.training import Price, price, training
from replay_jax.analysis.advice.verdict import HURTS, Judgement, judge
from replay_jax.analysis.advice.wording import (
    Answered,
    claim,
    cost,
    given_picks,
    ground_words,
    sentence,
)
from replay_jax.analysis.noise.components import Component
from replay_jax.analysis.statistics.bootstrap import Interval, interval
from replay_jax.analysis.study.selection import group_words
from replay_jax.analysis.study.study import Study, TargetStudy, replays
from replay_jax.analysis.study.tried import beside
from replay_jax.errors import UserError

_OF_NO_STAGES = Interval(None, None, None, note="a constant mixture is told by its epochs alone")


@dataclass(frozen=True)
class Recommendation:
    """What to do at one budget of one target, and how sure that is.

    answered: the schedule that replays and what it is compared with; judgement: the verdict on it.
    protocol: of the schedule to use (the rival's, where replay does not help).
    replay_fraction: its own, with the range that cannot be told from it; an end that the sweep does
      not bound is None. allocation and target_epochs likewise; a constant mixture ("uniform") has
      epochs only.
    cautions: what to beware of. overrides: those of the recommended runs, without the seed.
    best and baseline: the schedule and its rival, indices into TargetStudy.cells.
    price: what its training cost beside the rival's, and what that gave; None: not recorded.
    opinion: of another fit of the same runs (analysis/bayes), where that was asked for.
    """

    target: str
    answered: Answered
    judgement: Judgement
    cautions: tuple[Caution, ...]
    protocol: str
    replay_fraction: Interval
    allocation: Interval
    target_epochs: float
    overrides: Mapping[str, Any]
    next_runs: tuple[NextRuns, ...]
    best: int
    components: tuple[Component, ...]
    price: Price | None
    opinion: Opinion | None = None

    @property
    def target_tokens(self) -> int:
        """The budget."""
        return self.answered.own.target_tokens

    @property
    def verdict(self) -> str:
        """HELPS, HURTS, SAME or UNCLEAR, on the gain over the rival."""
        return self.judgement.verdict

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        return sentence(self.answered, self.verdict)

    @property
    def claim(self) -> str:
        """The same without what it costs in generic loss, which `cost` says."""
        return f"{claim(self.answered, self.verdict)}."

    @property
    def cost(self) -> str:
        """What it costs in generic loss, in a sentence; empty where that is not known."""
        return cost(self.answered)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, and what to beware of, one sentence each."""
        words = ground_words(self.judgement, self.rival, self.level)
        beside = (each.words for each in (self.opinion, self.price) if each is not None)
        cautions = (caution.words for caution in self.cautions)
        return (words, *beside, *cautions, *given_picks(self.judgement, self.rival))

    @property
    def rival(self) -> Comparison:
        """Against the best schedule that does not replay; the verdict is on this one."""
        return self.answered.rival

    @property
    def usual(self) -> Comparison:
        """Against the usual recipe, all target data at the end."""
        return self.answered.usual

    @property
    def baseline(self) -> int:
        """The rival's cell."""
        return self.rival.against

    @property
    def multiplier(self) -> Interval | None:
        """Target data efficiency over the rival; None without a reference law."""
        return self.rival.multiplier

    @property
    def gain(self) -> Interval:
        """Target loss of the rival less the schedule's, nats per token."""
        return self.rival.gain

    @property
    def generic_cost(self) -> Interval | None:
        """Generic loss less the rival's, nats (negative: it forgets less); None: not measured."""
        return self.rival.generic_cost

    @property
    def level(self) -> float:
        """Of every interval."""
        return self.answered.level

    def to_json(self) -> dict[str, Any]:
        """JSON object of `replay-jax recommend --json`."""
        cost, trained = self.generic_cost, self.answered.longer
        return {
            "target": self.target,
            "target_tokens": self.target_tokens,
            "protocol": self.protocol,
            "replay_fraction": self.replay_fraction.to_json(),
            "allocation": self.allocation.value,
            "allocation_interval": [self.allocation.low, self.allocation.high],
            "target_epochs": self.target_epochs,
            "multiplier": None if self.multiplier is None else self.multiplier.to_json(),
            "gain_nats": self.gain.to_json(),
            "gain_given_picks_nats": self.rival.given_picks.to_json(),
            "generic_cost_nats": None if cost is None else cost.value,
            "generic_cost_interval": [None, None] if cost is None else [cost.low, cost.high],
            "against": self.rival.words,
            "usual": self.usual.to_json(),
            "not_run": list(self.answered.lacking),
            "training": None if trained is None else trained.to_json(),
            "price": None if self.price is None else self.price.to_json(),
            "noise": [component.to_json() for component in self.components],
            "verdict": self.verdict,
            "ground": self.judgement.ground,
            "sentence": self.sentence,
            "second_opinion": None if self.opinion is None else self.opinion.to_json(),
            "reasons": list(self.reasons),
            "cautions": [caution.kind for caution in self.cautions],
            "overrides": dict(self.overrides),
            "next_runs": [option.to_json() for option in self.next_runs],
            "level": self.level,
            "same_within": self.answered.same_within,
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
    judgement = judge(found, best, rival, same_within=found.margin)
    shown = rival.against if judgement.verdict == HURTS else best
    fraction = _fraction_range(found, members, shown)
    return Recommendation(
        target=found.target,
        answered=Answered(
            own=cells[best].key,
            place=group_words(found, cells[best].key),
            several_allocations=len({cells[i].key.allocation for i in members}) > 1,
            plausible=fraction,
            rival=rival,
            usual=usual,
            lacking=not_run(found, best, others),
            longer=training(cells[best], cells[rival.against]),
            level=found.level,
            same_within=found.margin,
        ),
        judgement=judgement,
        cautions=cautions(found, members, best, rival, usual),
        protocol=cells[shown].key.protocol,
        replay_fraction=fraction,
        allocation=_allocation_range(found, members, shown),
        target_epochs=cells[shown].chosen.target_epochs,
        overrides=cells[shown].chosen.overrides,
        next_runs=plan_next_runs(found, members=members, best=best, baseline=rival.against),
        best=best,
        components=found.components,
        price=price(cells[best], cells[rival.against], rival.gain, rival.multiplier),
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
        raise UserError(incomparable(found))
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
    if found.cells[shown].key.protocol == "uniform":
        return _OF_NO_STAGES
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
        dropped = (one.key for one in beside(found, found.cells[shown].key))
        word = "compared" if any(key.replay_fraction > high for key in dropped) else "sampled"
        notes.append(f"no replay fraction above {high:g} was {word}")
    bottom = _between(float(below[-1]), low) if len(below) else low
    return Interval(value, bottom, top, note="; ".join(notes))


def _between(low: float, high: float) -> float:
    """The replay fraction half-way in -ln(1 - rho)."""
    return float(1 - np.sqrt((1 - low) * (1 - high)))


def _allocation_range(found: TargetStudy, members: list[int], shown: int) -> Interval:
    if found.cells[shown].key.protocol == "uniform":
        return _OF_NO_STAGES
    allocations = np.array([found.cells[i].key.allocation for i in members])
    value = found.cells[shown].key.allocation
    if len(set(allocations)) == 1:
        return Interval(value, value, value, note="one allocation was run")
    if found.noise is None:
        return Interval(value, None, None, note="seed noise unknown")
    drawn = allocations[found.draws.target[:, members].argmin(axis=1)]
    low, high = interval(drawn, level=found.level)
    return Interval(value, min(low, value), max(high, value))
