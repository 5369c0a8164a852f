"""A recommendation in words: the answer in one sentence, and what to beware of."""

from collections.abc import Sequence

from replay_jax.analysis.advice.compare import Comparison
from replay_jax.analysis.advice.training import Training
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.study import CellResult, TargetStudy

HELPS = "replay helps"
HURTS = "replay does not help"
UNCLEAR = "cannot tell"


def sentence(
    best: CellResult,
    *,
    allocation_swept: bool,
    verdict: str,
    fraction: Interval,
    rival: Comparison,
    usual: Comparison,
    lacking: Sequence[str],
    longer: Training | None,
    level: float,
) -> str:
    """The answer in one sentence with its intervals; `best` is the best cell that replays.

    The allocation is named where several were tried. What was not run and so not beaten is said.
    """
    where = f"at {best.key.target_tokens:,} target tokens"
    if lacking:
        where += f" ({' and '.join(f'no {kind}' for kind in lacking)} was run)"
    worth = _worth(rival, level)
    if usual.against != rival.against:
        worth += f", {_short(usual)} {usual.words}"
    if longer is not None and longer.longer:
        worth += f", but trained {longer.words}"
    worth += _cost_words(rival.generic_cost)
    own = f"{best.key.replay_fraction:g}"
    if allocation_swept:
        own += f" at α = {best.key.allocation:g}"
    if verdict == HELPS:
        assert fraction.low is not None
        top = "?" if fraction.high is None else f"{fraction.high:.2g}"
        return (
            f"Replay helps {where}: a replay fraction of {own} (plausible {fraction.low:.2g} to "
            f"{top}) {worth}"
        )
    if verdict == HURTS:
        return f"Replay does not help {where}: the best replay fraction, {own}, {worth}"
    return f"Cannot tell whether replay helps {where}: the best replay fraction, {own}, {worth}"


def _worth(rival: Comparison, level: float) -> str:
    percent = f"{100 * level:g} %"
    multiplier, gain = rival.multiplier, rival.gain
    if multiplier is not None and multiplier.value is not None:
        if multiplier.low is None and multiplier.high is None:
            ends = "no interval"
        else:
            low = "?" if multiplier.low is None else f"{multiplier.low:.2f}"
            high = "unbounded" if multiplier.high is None else f"{multiplier.high:.2f}"
            ends = f"{percent} interval {low} to {high}"
        marked = ", extrapolated" if multiplier.extrapolated else ""
        return (
            f"is worth {multiplier.value:.2f} times the target data ({ends}{marked}) against "
            f"{rival.words}"
        )
    change = f"changes target loss by {-(gain.value or 0):+.3f} nat"
    if gain.low is None or gain.high is None:
        return f"{change} (noise unknown) against {rival.words}"
    return (
        f"{change} ({percent} interval {-gain.high:+.3f} to {-gain.low:+.3f}) against {rival.words}"
    )


def _short(usual: Comparison) -> str:
    """What it is worth against the usual recipe, without the words of a sentence."""
    worth, gain = usual.multiplier, usual.gain
    if worth is not None and worth.value is not None:
        ends = [f"{end:.2f}" if end is not None else "?" for end in (worth.low, worth.high)]
        return f"{worth.value:.2f} times ({' to '.join(ends)}) against"
    ends = [f"{-end:+.3f}" if end is not None else "?" for end in (gain.high, gain.low)]
    return f"{-(gain.value or 0):+.3f} nat ({' to '.join(ends)}) against"


def _cost_words(cost: Interval) -> str:
    value = cost.value or 0.0
    if cost.low is not None and cost.high is not None and cost.low <= 0 <= cost.high:
        return f", at no generic cost that can be told ({value:+.3f} nat)."
    word = "costs" if value > 0 else "saves"
    return f", and {word} {abs(value):.3f} nat of generic loss."


def cautions(
    found: TargetStudy,
    members: Sequence[int],
    best: int,
    rival: Comparison,
    usual: Comparison,
) -> tuple[str, ...]:
    """What a reader must know before acting on the answer, one sentence each."""
    lines = []
    roles = {usual.against: "the usual recipe", rival.against: rival.words}
    for index, role in (*roles.items(), (best, "the best replay schedule")):
        lines += [
            f"{role} lies at the edge of its grid: {edge}" for edge in found.cells[index].at_edge
        ]
        if index != best and len(found.cells[index].settings) == 1:
            lines.append(f"{role} was not tuned in this sweep; at fixed epochs the sign can flip")
    if found.curve is None:
        lines.append(f"no multiplier: {found.curve_problem}")
    elif rival.multiplier is not None and rival.multiplier.value is None:
        lines.append(f"no multiplier: {rival.multiplier.note}")
    lines += _controls(found, best)
    lines += _without_replay(found, members, usual.against)
    tops = [found.cells[i].key.replay_fraction for i in members]
    if found.cells[best].key.replay_fraction == max(tops):
        lines.append(f"the best replay fraction is the largest sampled ({max(tops):g})")
    if found.missing:
        several = len(found.missing) > 1
        groups = f"{len(found.missing)} groups of runs are" if several else "a group of runs is"
        lines.append(f"{groups} incomplete")
    return tuple(lines)


def _controls(found: TargetStudy, best: int) -> list[str]:
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
            lines.append(
                f"it {told} a constant mixture tuned by itself ({control.target_epochs:g} epochs; "
                f"{ends.value:+.3f} nat of target loss)"
            )
    return lines


def _without_replay(found: TargetStudy, members: Sequence[int], baseline: int) -> list[str]:
    """Where the target data's place alone is better than the baseline."""
    usual = found.cells[baseline]
    lines = []
    for cell in (found.cells[i] for i in members):
        change = cell.chosen.target_loss - usual.chosen.target_loss
        if cell.key.replay_fraction == 0 and change < 0:
            lines.append(
                f"without replay, α = {cell.key.allocation:g} already changes target loss by "
                f"{change:+.3f} nat against the baseline (α = {usual.key.allocation:g})"
            )
    return lines
