"""Whether replay helps: the verdict on a gain, and the doubts that no interval shows."""

from dataclasses import dataclass
from typing import Literal

from replay_jax.analysis.advice.compare import Comparison
from replay_jax.analysis.advice.training import Training, training
from replay_jax.analysis.study.study import CellResult, Edge, SettingResult, TargetStudy

HELPS = "replay helps"
HURTS = "replay does not help"
UNCLEAR = "cannot tell"
SAME = "the same"


@dataclass(frozen=True)
class OneSided:
    """One side was tuned over `settings` settings, the other was run at one only.

    `share`: what the tuned side gained from the other's setting to its best, nats per token; None
    where it was never run at that one.
    """

    settings: int
    share: float | None


@dataclass(frozen=True)
class Judgement:
    """A verdict (HELPS, HURTS, SAME or UNCLEAR) and what it rests on.

    `ground`: "interval" (of the gain against the margin); or why nothing can be told: "one seed",
    "longer" (the schedule was trained as `training` says), "shorter" (its rival was), "untuned"
    (the side that is behind still improves at `edge`, where its last step gained `last_step` nats),
    "one side tuned" (the side behind was run at one setting, the other was tuned as `tuned` says).
    `behind`: which side the last two speak of, the schedule that is judged or its rival.
    """

    verdict: str
    ground: Literal["interval", "one seed", "longer", "shorter", "untuned", "one side tuned"]
    training: Training | None = None
    edge: Edge | None = None
    last_step: float | None = None
    tuned: OneSided | None = None
    behind: Literal["rival", "own"] = "rival"


def judge(
    found: TargetStudy,
    best: int,
    rival: Comparison,
    *,
    margin: float = 0.0,
    same_within: float = 0.0,
    as_it_is: bool = False,
) -> Judgement:
    """Verdict on the gain of cell `best` over its best rival: is it more than `margin` nats?

    Where its whole interval is smaller than `same_within` either way, and both were trained as
    long, the two are the same. A side that is behind by no more than tuning may give it is not
    called worse; but for the cell itself, where it is judged `as_it_is`.
    """
    gain = rival.gain
    own, other = found.cells[best], found.cells[rival.against]
    if not found.seed_noise_known:
        return Judgement(UNCLEAR, "one seed")
    assert gain.value is not None and gain.low is not None and gain.high is not None
    if -same_within < gain.low and gain.high < same_within and not _unequal(own, other):
        return Judgement(SAME, "interval")
    if gain.high < margin:
        shorter = training(other, own)
        if shorter is not None and shorter.longer:
            return Judgement(UNCLEAR, "shorter", training=shorter)
        by = (margin - gain.value, margin - gain.high)
        doubt = None if as_it_is else _doubt(own, other, by, behind="own")
        return doubt or Judgement(HURTS, "interval")
    if gain.low <= margin:
        return Judgement(UNCLEAR, "interval")
    longer = training(own, other)
    if longer is not None and longer.longer:
        return Judgement(UNCLEAR, "longer", training=longer)
    by = (gain.value - margin, gain.low - margin)
    doubt = _doubt(other, own, by, behind="rival")
    return doubt or Judgement(HELPS, "interval")


def one_sided(behind: CellResult, ahead: CellResult) -> OneSided | None:
    """How much more `ahead` was tuned than `behind`, which has one setting; None if it has more.

    None too where nothing was tuned, or the best setting of both is the same one.
    """
    fixed = behind.chosen.tuned
    if len(behind.ever) > 1 or len(ahead.ever) == 1 or ahead.chosen.tuned == fixed:
        return None
    same = [setting.target_loss for setting in ahead.ever if setting.tuned == fixed]
    share = min(same) - ahead.chosen.target_loss if same else None
    return OneSided(len(ahead.ever), share)


def _doubt(
    lower: CellResult,
    ahead: CellResult,
    by: tuple[float, float],
    *,
    behind: Literal["rival", "own"],
) -> Judgement | None:
    """Why a side that is behind `by` so many nats, and by the least that its interval carries, may
    be so for want of tuning; None: it is not.
    """  # fmt: skip
    step = _last_step(lower)
    if step is not None and step[1] >= by[0]:
        return Judgement(UNCLEAR, "untuned", edge=step[0], last_step=step[1], behind=behind)
    found = one_sided(lower, ahead)
    if found is not None and (found.share is None or found.share >= by[1]):
        return Judgement(UNCLEAR, "one side tuned", tuned=found, behind=behind)
    return None


def _unequal(own: CellResult, other: CellResult) -> bool:
    return any(t is not None and t.longer for t in (training(own, other), training(other, own)))


def _last_step(cell: CellResult) -> tuple[Edge, float] | None:
    """What the last step to the edge of a tuned grid gained, in nats; None inside it.

    Of several keys at an edge the one whose step gained most. A step goes to the edge from the
    nearest value of its key, all other keys as they are.
    """
    steps = []
    edges = {edge.key: edge for edge in cell.at_edge}
    for position, (name, best) in enumerate(cell.chosen.tuned):
        beside = [
            (abs(setting.tuned[position][1] - best), setting.target_loss)
            for setting in cell.settings
            if name in edges and _differs_only_at(position, setting, cell.chosen)
        ]
        if beside:
            steps.append((edges[name], min(beside)[1] - cell.chosen.target_loss))
    return max(steps, key=lambda step: step[1], default=None)


def _differs_only_at(position: int, one: SettingResult, other: SettingResult) -> bool:
    return all(
        (mine == theirs) == (place != position)
        for place, (mine, theirs) in enumerate(zip(one.tuned, other.tuned, strict=True))
    )
