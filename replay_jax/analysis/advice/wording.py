"""Words are made here and nowhere else: the answer in one sentence, and the reason for it.

They are made of fields (`Answered`, `Judgement`), so what reads an answer reads those.
"""

from dataclasses import dataclass

from replay_jax.analysis.advice.compare import Comparison
from replay_jax.analysis.advice.training import Training
from replay_jax.analysis.advice.verdict import HELPS, HURTS, SAME, Judgement
from replay_jax.analysis.runs.records import fraction_form, fraction_words
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.groups import CellKey


@dataclass(frozen=True)
class Answered:
    """What is answered about one budget.

    own: the best schedule that replays. place: what tells its group from the study's others.
    several_allocations: whether its allocation was chosen among several.
    plausible: the replay fraction with the range that cannot be told from it; an end that the
      sweep does not bound is None.
    rival: that schedule against the best that does not replay; usual: against the usual recipe.
    lacking: kinds of schedule without replay that were not run, so that the rival may not be the
      best there is.
    longer: how much longer the schedule was trained than the rival ever was; None: not recorded.
    level: of every interval.
    same_within: changes of target loss below it are none, nats per token.
    """

    own: CellKey
    place: str
    several_allocations: bool
    plausible: Interval
    rival: Comparison
    usual: Comparison
    lacking: tuple[str, ...]
    longer: Training | None
    level: float
    same_within: float


def sentence(said: Answered, verdict: str) -> str:
    """The answer in one sentence with its intervals: the claim and what it costs elsewhere."""
    return f"{claim(said, verdict)}{_cost(said)}."


def claim(said: Answered, verdict: str) -> str:
    """What replay is worth, without a full stop.

    The allocation is named where several were tried. What was not run and so not beaten is said.
    """
    where = f"at {said.place}"
    if said.lacking:
        where += f" ({' and '.join(f'no {kind}' for kind in said.lacking)} was run)"
    worth = _worth(said.rival, said.level)
    if said.usual.against != said.rival.against:
        worth += f", {_short(said.usual)} {said.usual.words}"
    if said.longer is not None and said.longer.longer:
        worth += f", but trained {said.longer.words}"
    own = fraction_words(said.own.replay_fraction)
    if said.several_allocations:
        own += f" at α = {said.own.allocation:g}"
    if verdict == HELPS:
        low, high = said.plausible.low, said.plausible.high
        range_ = ends(low, high, fraction_form(low, high, digits=2))
        return f"Replay helps {where}: a replay fraction of {own} (plausible {range_}) {worth}"
    if verdict == HURTS:
        return f"Replay does not help {where}: the best replay fraction, {own}, {worth}"
    if verdict == SAME:
        return (
            f"Replay changes nothing {where} (the same within {said.same_within:g} nat): the best "
            f"replay fraction, {own}, {worth}"
        )
    return f"Cannot tell whether replay helps {where}: the best replay fraction, {own}, {worth}"


def cost(said: Answered) -> str:
    """What it costs in generic loss, as a sentence of its own; empty where nobody knows."""
    words = _cost(said)
    if not words:
        return ""
    joined = {", and ": "It ", ", at ": "It comes at "}
    (start,) = (start for start in joined if words.startswith(start))
    return f"{joined[start]}{words.removeprefix(start)}."


def brief(said: Answered, verdict: str, where: str) -> str:
    """One more answer, of the group that `where` names, after a first one in full."""
    multiplier, own = said.rival.multiplier, fraction_words(said.own.replay_fraction)
    if multiplier is not None and multiplier.value is not None:
        worth = f"is worth {_times(multiplier)} the target data ({_range(multiplier)})"
    else:
        worth = f"changes target loss by {_change(said.rival.gain)}"
    opening = {HELPS: HELPS, HURTS: HURTS, SAME: "replay changes nothing"}
    told = opening[verdict] if verdict in opening else "it cannot be told"
    after = "," if ", " in where else ""
    worth += f" against {said.rival.words}"
    if said.usual.against != said.rival.against:
        worth += f", {_short(said.usual)} {said.usual.words}"
    cost = cost_words(said.rival.generic_cost) + _at_epochs(said.rival)
    return f"At {where}{after} {told}: {own} {worth}{cost}."


def ground_words(
    found: Judgement,
    rival: Comparison,
    level: float,
    *,
    own: str = "the best replay schedule",
    briefly: str = "replay",
) -> str:
    """Why the verdict is what it is; the schedule that is judged is called `own`, or `briefly`."""
    gain = rival.gain
    if found.ground == "one seed":
        return "with one seed of each setting the noise between seeds is unknown; run at least two"
    if found.ground == "shorter":
        assert found.training is not None
        return (
            f"{rival.words} was trained {found.training.words}, and no setting of {own} "
            "as long: compare them at equal training first"
        )
    if found.ground == "longer":
        assert found.training is not None
        return (
            f"{briefly} trained {found.training.words}, and no setting of {rival.words} as long: "
            "compare them at equal training first"
        )
    if found.ground in ("untuned", "one side tuned"):
        return _tuning_words(found, rival, own, briefly)
    assert gain.low is not None and gain.high is not None
    lies = "lies above zero" if gain.low > 0 else "includes zero"
    if found.verdict == SAME:
        lies = "lies within the margin"
    elif gain.high < 0:
        lies = "lies below zero"
    return (
        f"the {100 * level:g} % interval of its gain over {rival.words}, {gain.low:.3f} to "
        f"{gain.high:.3f} nat, {lies}"
    )


def given_picks(found: Judgement, rival: Comparison) -> tuple[str, ...]:
    """The wider interval where the answer rests on one; a caution has it where they differ."""
    gain = rival.given_picks
    if found.ground != "interval" or rival.rests_on_others or gain.low is None or gain.high is None:
        return ()
    ends = f"{gain.low:+z.3f} to {gain.high:+z.3f}"
    return (f"given only that both were picked, the gain is {ends} nat",)


def _tuning_words(found: Judgement, rival: Comparison, own: str, briefly: str) -> str:
    """What the side that is behind may still gain by tuning, beside what it lacks."""
    behind, ahead = rival.words, own
    gain = rival.gain.value or 0.0
    gained = f"{briefly} {'gains' if gain > 0 else 'loses'} {abs(gain):.3f}"
    if found.behind == "own":
        behind, ahead = ahead, behind
    if found.edge is not None:
        return (
            f"{behind} is still improving at the edge of its grid ({found.edge.words}; its "
            f"last step gained {found.last_step:.3f} nat, {gained}): tune it further first"
        )
    assert found.tuned is not None
    share = found.tuned.share
    told = (
        "never at that one" if share is None else f"which gained it {share:.3f} nat, and {gained}"
    )
    return (
        f"{behind} was run at one setting, and {ahead} tuned over {found.tuned.settings}, {told}: "
        "run both at the same settings first"
    )


def ends(low: float | None, high: float | None, form: str) -> str:
    """The ends of an interval; one that is not known is not named."""
    if low is None and high is None:
        return "without bounds"
    if low is None:
        return f"up to {high:{form}}"
    return f"from {low:{form}} up" if high is None else f"{low:{form}} to {high:{form}}"


def _worth(rival: Comparison, level: float) -> str:
    multiplier, gain = rival.multiplier, rival.gain
    if multiplier is not None and multiplier.value is not None:
        unknown = multiplier.low is None and multiplier.high is None
        percent = "" if unknown else f"{100 * level:g} % interval "
        return (
            f"is worth {_times(multiplier)} the target data "
            f"({percent}{_range(multiplier)}) against {rival.words}"
        )
    return f"changes target loss by {change_words(gain, level)} against {rival.words}"


def _times(worth: Interval) -> str:
    """Where nothing bounds a multiplier above, any one number would be made up."""
    if worth.high is None and worth.low is not None:
        return f"at least {worth.low:.2f} times"
    return f"{worth.value:.2f} times"


def _range(worth: Interval) -> str:
    """The interval of a multiplier in words, and whether it lies beyond the measured budgets."""
    if worth.high is None:
        range_ = "no interval" if worth.low is None else "open above"
    else:
        range_ = ends(worth.low, worth.high, ".2f")
    return f"{range_}, extrapolated" if worth.extrapolated else range_


def change_words(gain: Interval, level: float) -> str:
    """A gain as the change of loss that it is, with its interval."""
    if gain.low is None or gain.high is None:
        return f"{_change(gain)} (noise unknown)"
    return f"{_change(gain)} ({100 * level:g} % interval {_change_ends(gain)})"


def _short(usual: Comparison) -> str:
    """What it is worth against the usual recipe, without the words of a sentence."""
    worth, gain = usual.multiplier, usual.gain
    if worth is not None and worth.value is not None:
        return f"{_times(worth)} ({_range(worth)}) against"
    known = gain.low is not None and gain.high is not None
    return f"{_change(gain)} ({_change_ends(gain) if known else 'noise unknown'}) against"


def _change(gain: Interval) -> str:
    return f"{0 - (gain.value or 0):+z.3f} nat"


def _change_ends(gain: Interval) -> str:
    """The interval of the change of loss, which is the gain's with the other sign."""
    low, high = (None if end is None else 0 - end for end in (gain.high, gain.low))
    return ends(low, high, "+z.3f")


def _cost(said: Answered) -> str:
    return cost_words(said.rival.generic_cost) + _at_epochs(said.rival) + _at_best(said.rival)


def _at_epochs(rival: Comparison) -> str:
    """At which epochs a cost is told where the two sides' best differ."""
    cost, (own, other) = rival.generic_cost, rival.epochs
    if own == other or cost is None or cost.value is None:
        return ""
    return (
        f" at {own:g} epochs against {other:g}" if _one_cost(rival) else f" at {own:g} epochs each"
    )


def _at_best(rival: Comparison) -> str:
    """The cost against the other side at its own best, where it has other epochs there."""
    best, (own, other) = rival.cost_at_best, rival.epochs
    if own == other or best is None or best.value is None or _one_cost(rival):
        return ""
    said = f"{'costs' if best.value > 0 else 'saves'} {abs(best.value):.3f}"
    if best.low is not None and best.high is not None:
        if best.low <= 0 <= best.high:
            said = f"costs nothing that can be told ({ends(best.low, best.high, '+z.3f')})"
        else:
            least, most = sorted((abs(best.low), abs(best.high)))
            said += f" ({ends(least, most, '.3f')})"
    return f"; against {rival.words} at its best, {other:g} epochs, it {said}"


def _one_cost(rival: Comparison) -> bool:
    """Whether the other side was not run at the schedule's epochs."""
    return rival.cost_at_best == rival.generic_cost


def cost_words(cost: Interval | None) -> str:
    """The end of a sentence: what a schedule costs in generic loss; empty where nobody knows."""
    if cost is None or cost.value is None:
        return ""
    if cost.low is None or cost.high is None:
        word = "costs" if cost.value > 0 else "saves"
        return f", and {word} {abs(cost.value):.3f} nat of generic loss (noise unknown)"
    if cost.low <= 0 <= cost.high:
        return (
            f", at no generic cost that can be told ({cost.value:+z.3f} nat, "
            f"{ends(cost.low, cost.high, '+z.3f')})"
        )
    least, most = sorted((abs(cost.low), abs(cost.high)))
    return (
        f", and {'costs' if cost.value > 0 else 'saves'} {abs(cost.value):.3f} nat of generic loss "
        f"({ends(least, most, '.3f')})"
    )
