"""Whether replay helps: the verdict on a gain, and the one doubt that no interval shows."""

from replay_jax.analysis.advice.compare import Comparison
from replay_jax.analysis.advice.training import training
from replay_jax.analysis.advice.wording import HELPS, HURTS, UNCLEAR
from replay_jax.analysis.study.study import CellResult, SettingResult, TargetStudy


def judge(found: TargetStudy, best: int, rival: Comparison) -> tuple[str, tuple[str, ...]]:
    """Verdict on the gain of cell `best` over its best rival, and the reason for it."""
    gain = rival.gain
    own, other = found.cells[best], found.cells[rival.against]
    if not found.seed_noise_known:
        return UNCLEAR, ("with one seed the noise between seeds is unknown; run at least two",)
    assert gain.value is not None and gain.low is not None and gain.high is not None
    percent = f"{100 * found.level:g} %"
    if gain.high < 0:
        shorter = training(other, own)
        if shorter is not None and shorter.longer:
            return UNCLEAR, (
                f"{rival.words} was trained {shorter.words}, and no setting of the best replay "
                "schedule as long: compare them at equal training first",
            )
        return HURTS, (
            f"the {percent} interval of its gain over {rival.words}, {gain.low:.3f} to "
            f"{gain.high:.3f} nat, lies below zero",
        )
    if gain.low <= 0:
        return UNCLEAR, (
            f"the {percent} interval of its gain over {rival.words}, {gain.low:.3f} to "
            f"{gain.high:.3f} nat, includes zero",
        )
    longer = training(own, other)
    if longer is not None and longer.longer:
        return UNCLEAR, (
            f"replay trained {longer.words}, and no setting of {rival.words} as long: compare them "
            "at equal training first",
        )
    step = _last_step(other)
    if step is not None and step[1] >= gain.value:
        return UNCLEAR, (
            f"{rival.words} is still improving at the edge of its grid ({step[0]}; its last step "
            f"gained {step[1]:.3f} nat, replay gains {gain.value:.3f}): tune it further first",
        )
    return HELPS, (
        f"the {percent} interval of its gain over {rival.words}, {gain.low:.3f} to "
        f"{gain.high:.3f} nat, lies above zero",
    )


def _last_step(cell: CellResult) -> tuple[str, float] | None:
    """What the last step to the edge of a tuned grid gained (in words, nats); None inside it.

    Of several keys at an edge the one whose step gained most. A step goes to the edge from the
    nearest value of its key, all other keys as they are.
    """
    steps = []
    for position, (name, best) in enumerate(cell.chosen.tuned):
        words = next((edge for edge in cell.at_edge if edge.startswith(f"{name}: ")), None)
        beside = [
            (abs(setting.tuned[position][1] - best), setting.target_loss)
            for setting in cell.settings
            if _differs_only_at(position, setting, cell.chosen)
        ]
        if words is not None and beside:
            steps.append((words, min(beside)[1] - cell.chosen.target_loss))
    return max(steps, key=lambda step: step[1], default=None)


def _differs_only_at(position: int, one: SettingResult, other: SettingResult) -> bool:
    return all(
        (mine == theirs) == (place != position)
        for place, (mine, theirs) in enumerate(zip(one.tuned, other.tuned, strict=True))
    )
