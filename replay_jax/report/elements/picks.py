"""The runs that an answer is about, for every figure and table that shows only some of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.selection import best_replay, focus_budget, knob_words, loss_of
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.lines import CONSTANT


@dataclass(frozen=True)
class Pick:
    """At one budget the schedule that is answered for, and what it is compared with.

    `usual`: the baseline of its multiplier; `rival`: the best schedule without replay, which may be
    the same one. None: there is none. `over_rival`: what it is worth over the rival, in target
    data; None without a law.
    """

    best: CellResult
    usual: CellResult | None
    rival: CellResult | None
    over_rival: Interval | None

    @property
    def stronger(self) -> CellResult | None:
        """The rival where it is another than the usual recipe."""
        return None if self.rival is self.usual else self.rival

    def name(self, cell: CellResult) -> str:
        """What a schedule without replay is called beside this one."""
        if cell.key.protocol == "uniform":
            words = CONSTANT
        else:
            words = "no replay"
            if cell.key.allocation != 1:
                words += f", α {cell.key.allocation:g}"
        return words + knob_words(cell.key, self.best.key)


# By budget, in target tokens.
Picks = Mapping[int, Pick]


def picks(study: TargetStudy, found: Sequence[Recommendation] | str) -> dict[int, Pick]:
    """What is shown of every budget at which something replays.

    Of several groups of a budget that of the first answer, so that all budgets differ in nothing
    else; where it did not run there, the one of least target loss. `found` in words: nothing is
    answered, and the schedule of least target loss is shown.
    """
    answered = () if isinstance(found, str) else found
    shown = {}
    for tokens in study.budgets:
        own = [each for each in answered if each.target_tokens == tokens]
        if own:
            shown[tokens] = _pick(study, min(own, key=lambda each: _rank(study, answered[0], each)))
        elif (best := best_replay(study, tokens)) is not None:
            usual = None if best.baseline is None else study.cells[best.baseline]
            shown[tokens] = Pick(best, usual, usual, None)
    return shown


def focus(study: TargetStudy, shown: Picks) -> Pick | None:
    """What is shown where figures look inside runs (`focus_budget`); None: nothing replays."""
    tokens = focus_budget(study)
    return None if tokens is None else shown.get(tokens)


def _pick(study: TargetStudy, found: Recommendation) -> Pick:
    best = study.cells[found.best]
    usual = found.usual.against if best.baseline is None else best.baseline
    return Pick(best, study.cells[usual], study.cells[found.rival.against], found.multiplier)


def _rank(study: TargetStudy, first: Recommendation, each: Recommendation) -> tuple[bool, float]:
    own, answer = (study.cells[found.best] for found in (each, first))
    same = (own.key.protocol, own.key.axes) == (answer.key.protocol, answer.key.axes)
    return not same, loss_of(own)
