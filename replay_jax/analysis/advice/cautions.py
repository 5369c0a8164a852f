"""What a reader must know before acting on an answer, one caution each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from replay_jax.analysis.advice.compare import Comparison
from replay_jax.analysis.runs.records import fraction_words
from replay_jax.analysis.statistics.efficiency import LAW_NAMES
from replay_jax.analysis.study.stopping import NOTE
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.analysis.study.tried import beside, dropped_words

Kind = Literal[
    "edge", "untuned", "learning rate", "multiplier", "mixture", "placement", "largest", "dropped",
    "incomplete", "early stopping", "second opinion", "curve", "picked", "picks alone", "two seeds",
]  # fmt: skip

_RATE = "schedule.learning_rate."
# Share of the resamples on either side from which what noise decides is worth a word, and by which
# factor the two must differ.
_OFTEN, _APART = 0.1, 1.1
# Share of the interval's width from which the luck of having been picked is worth a word.
_LUCKY = 0.1


@dataclass(frozen=True)
class Caution:
    """One caution in words.

    `kind`: "edge" (a best value is the last one tried), "untuned", "learning rate" (what
    it is compared with was trained by another schedule of it), "multiplier" (there is none),
    "mixture" (how a constant mixture does), "placement" (how the place of the target data does
    alone), "largest" (replay fraction tried), "dropped" (larger ones were tried, and not compared),
    "incomplete" (groups lack runs that others have), "early stopping" (runs are judged by their
    best states), "second opinion" (another fit of the same runs contradicts the answer), "curve"
    (the multiplier depends on whether the reference law or its points are followed, and it is
    chance which are), "picked" (what was measured, where luck is a good part of it), "picks
    alone" (an interval that holds however schedules differ does not carry the answer), "two seeds"
    (which hardly tell whether one kind of run is noisier than others).
    """

    kind: Kind
    words: str


def cautions(
    found: TargetStudy,
    members: Sequence[int],
    best: int,
    rival: Comparison,
    usual: Comparison,
) -> tuple[Caution, ...]:
    """All cautions about the answer that cell `best` is, in the order of their weight."""
    lines = [Caution("early stopping", NOTE)] if NOTE in found.notes else []
    lines += _grids(found, best, rival, usual)
    lines += _learning_rates(found, best, rival)
    if found.curve is None:
        lines.append(Caution("multiplier", f"no multiplier: {found.curve_problem}"))
    elif rival.multiplier is not None and rival.multiplier.value is None:
        lines.append(Caution("multiplier", f"no multiplier: {rival.multiplier.note}"))
    elif rival.multiplier is None:
        lines.append(Caution("multiplier", f"no multiplier: {found.cells[best].note}"))
    lines += _lucky(rival) + _picks_alone(rival)
    lines += _followed(found, best, rival)
    lines += _controls(found, best, rival)
    lines += _without_replay(found, members, usual.against)
    lines += _largest(found, members, best)
    lines += _two_seeds(found, rival)
    if found.missing:
        some = len(found.missing) > 1
        groups = f"{len(found.missing)} groups lack" if some else "a group lacks"
        lines.append(Caution("incomplete", f"{groups} runs that others have"))
    return tuple(lines)


def _lucky(rival: Comparison) -> list[Caution]:
    """Where the two sides' best measured otherwise than the answer says, and why."""
    gain = rival.gain
    if gain.value is None or gain.low is None or gain.high is None:
        return []
    measured, freed = (f"{nats:+z.3f}" for nats in (rival.measured, gain.value))
    small = abs(rival.measured - gain.value) < _LUCKY * (gain.high - gain.low)
    if small or measured == freed:
        return []
    words = (
        f"its best runs measured a gain of {measured} nat over {rival.words}, {freed} without the "
        "luck of either side: the best of several is picked for its luck too"
    )
    return [Caution("picked", words)]


def _picks_alone(rival: Comparison) -> list[Caution]:
    """Where a sign rests on how the other schedules tried are scattered."""
    alone = rival.given_picks
    if not rival.rests_on_others:
        return []
    assert alone.low is not None and alone.high is not None
    words = (
        f"given only that both were picked, the gain is {alone.low:+z.3f} to {alone.high:+z.3f} "
        "nat, which tells nothing: the narrower interval rests on how alike the schedules tried are"
    )
    return [Caution("picks alone", words)]


def _two_seeds(found: TargetStudy, rival: Comparison) -> list[Caution]:
    """Where a generic cost has an interval that two seeds cannot answer for."""
    cost = rival.generic_cost
    if len(found.seeds) != 2 or cost is None or cost.low is None:
        return []
    words = (
        "two seeds hardly tell whether runs without replay are noisier than others: where they "
        "are, the interval of the generic cost may be too narrow; run a third seed"
    )
    return [Caution("two seeds", words)]


def _followed(found: TargetStudy, best: int, rival: Comparison) -> list[Caution]:
    """Where the law and the points of the reference give other multipliers, and either may do."""
    curve, drawn, worth = found.curve, found.draws.log_equivalent, rival.multiplier
    if curve is None or drawn is None or worth is None or worth.value is None:
        return []
    points = curve.resampled.chosen == LAW_NAMES.index("interpolation")
    with np.errstate(invalid="ignore"):  # beyond a law's floor both may be infinite
        logs = drawn[:, best] - drawn[:, rival.against]
    sides = [logs[rows & np.isfinite(logs)] for rows in (points, ~points)]
    if min(map(len, sides)) < _OFTEN * len(logs):
        return []
    by_points, by_law = (math.exp(float(np.median(side))) for side in sides)
    if max(by_points / by_law, by_law / by_points) < _APART:
        return []
    words = (
        f"noise decides whether the reference runs lie on a law: {by_law:.2f} times where they are "
        f"taken to, {by_points:.2f} where they are followed themselves, as in {points.mean():.0%} "
        "of the resamples; read the interval rather than the one number"
    )
    return [Caution("curve", words.replace("%", " %"))]


def _largest(found: TargetStudy, members: Sequence[int], best: int) -> list[Caution]:
    """Where no larger replay fraction is compared with the best: whether one was tried."""
    own = found.cells[best].key
    if own.replay_fraction < max(found.cells[i].key.replay_fraction for i in members):
        return []
    beyond = [d for d in beside(found, own) if d.key.replay_fraction > own.replay_fraction]
    if beyond:
        named = "; ".join(dropped_words(each, found.cells) for each in beyond)
        return [Caution("dropped", f"no larger replay fraction is compared, but tried: {named}")]
    words = (
        f"the best replay fraction is the largest sampled ({fraction_words(own.replay_fraction)})"
    )
    return [Caution("largest", words)]


def _grids(found: TargetStudy, best: int, rival: Comparison, usual: Comparison) -> list[Caution]:
    """Whose best setting lies at an edge, and who had no grid."""
    lines: list[Caution] = []
    other = found.cells[rival.against]
    roles = {usual.against: "the usual recipe", rival.against: rival.words}
    for index, role in (*roles.items(), (best, "the best replay schedule")):
        lines += [
            Caution("edge", f"{role} lies at the edge of its grid: {edge.words}")
            for edge in found.cells[index].at_edge
        ]
        if len(found.cells[index].ever) == 1 and (index != best or len(other.ever) > 1):
            words = f"{role} was not tuned in this sweep; at fixed epochs the sign can flip"
            lines.append(Caution("untuned", words))
    return lines


def _learning_rates(found: TargetStudy, best: int, rival: Comparison) -> list[Caution]:
    """Where the two sides differ by the rate over the steps too, which may do what replay does."""
    differing = other_rate(found, best, rival.against)
    if not differing:
        return []
    words = (
        f"{rival.words} had another learning rate over the steps ({differing}), which "
        "may make a part of the difference: train it with that of the best replay schedule too"
    )
    return [Caution("learning rate", words)]


def other_rate(found: TargetStudy, best: int, against: int) -> str:
    """How another cell's rate over the steps differs from that of `best`; "" if it does not."""
    own, other = (found.cells[i].chosen for i in (best, against))
    tuned = {name.rpartition(".")[2] for name, _ in own.tuned if name.startswith(_RATE)}
    both = [name for name in own.learning_rate if name in other.learning_rate]
    values = {name: (other.learning_rate[name], own.learning_rate[name]) for name in both}
    if len(set(values.get("shape", ("",)))) > 1:
        values = {name: values[name] for name in ("shape", "peak")}  # others are of one shape
    return ", ".join(
        f"{name.replace('_', ' ')} {theirs} and not {ours}"
        for name, (theirs, ours) in values.items()
        if theirs != ours and name not in tuned
    )


def _controls(found: TargetStudy, best: int, rival: Comparison) -> list[Caution]:
    """The best schedule against constant mixtures tuned by themselves."""
    lines = []
    for control in found.controls:
        if control.cell == best and control.difference.value is not None:
            ends = control.difference
            if ends.high is not None and ends.high < 0:
                told = "beats"
            elif ends.low is not None and ends.low > 0:
                told = "is beaten by"
            else:
                told = "is not told from"
            tuned = " tuned by itself" if len(found.cells[control.constant].ever) > 1 else ""
            said = control.constant == rival.against  # by `_learning_rates`
            rate = "" if said else other_rate(found, best, control.constant)
            words = (
                f"it {told} a constant mixture{tuned} ({control.target_epochs:g} epochs; "
                f"{ends.value:+z.3f} nat of target loss as measured)"
                + f", which had another learning rate over the steps ({rate})"
                * bool(rate)
            )
            lines.append(Caution("mixture", words))
    return lines


def _without_replay(found: TargetStudy, members: Sequence[int], baseline: int) -> list[Caution]:
    """Where the target data's place alone is better than the baseline."""
    usual = found.cells[baseline]
    lines = []
    for cell in (found.cells[i] for i in members):
        change = cell.chosen.target_loss - usual.chosen.target_loss
        if cell.key.replay_fraction == 0 and change < 0:
            words = (
                f"without replay, α = {cell.key.allocation:g} already changes target loss by "
                f"{change:+z.3f} nat against the baseline (α = {usual.key.allocation:g})"
            )
            lines.append(Caution("placement", words))
    return lines
