"""Whether one recipe may replace the best that does not replay: better, worse, or nobody can tell.

The gain must be more than a margin, and the generic loss may rise by no more than another, both
with the whole of their intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from replay_jax.analysis.advice.compare import Comparison, best_of, compare, rivals
from replay_jax.analysis.advice.verdict import HELPS, HURTS, Judgement, judge
from replay_jax.analysis.advice.wording import change_words, cost_words, ground_words
from replay_jax.analysis.study.selection import other_settings, setting_words
from replay_jax.analysis.study.study import CellResult, TargetStudy, replays
from replay_jax.errors import UserError

Forgets = Literal["no more than asked", "more than asked", "cannot tell", "not asked"]


@dataclass(frozen=True)
class Shipping:
    """One recipe against the best that does not replay.

    run: its id, or "best"; recipe: its setting in words. baseline_runs: ids of what it is compared
    with, which `comparison` names. margin and generic_margin: the least gain in target loss and the
    largest generic cost asked for, nats per token; None: nothing was asked of generic loss.
    """

    run: str
    recipe: str
    target: str
    comparison: Comparison
    baseline_runs: tuple[str, ...]
    baseline_recipe: str
    judgement: Judgement
    margin: float
    generic_margin: float | None
    level: float

    @property
    def forgets(self) -> Forgets:
        """Whether generic loss rises by no more than was asked, each side at its own best."""
        cost = self.comparison.cost_at_best
        if self.generic_margin is None:
            return "not asked"
        if cost is None or cost.low is None or cost.high is None:
            return "cannot tell"
        if cost.high <= self.generic_margin:
            return "no more than asked"
        return "more than asked" if cost.low > self.generic_margin else "cannot tell"

    @property
    def verdict(self) -> Literal["better", "worse", "cannot tell"]:
        """What a gate decides by."""
        gains = self.judgement.verdict
        if gains == HURTS or self.forgets == "more than asked":
            return "worse"
        return "better" if gains == HELPS and self.forgets != "cannot tell" else "cannot tell"

    @property
    def sentence(self) -> str:
        """Verdict, both numbers with their intervals and margins, and the baseline's name."""
        gain, cost = self.comparison.gain, self.comparison.cost_at_best
        asked = f"asked: a gain of more than {self.margin:g}"
        words = (
            f"{self.verdict.capitalize()}: {self.run} ({self.recipe}) changes target loss by "
            f"{change_words(gain, self.level)} against {self.comparison.words} "
            f"({self.baseline_recipe}; {asked}){cost_words(cost)}"
        )
        if self.generic_margin is not None:
            words += f" (asked: a cost of no more than {self.generic_margin:g})"
        if self.judgement.ground != "interval":
            called = "the best" if self.run == "best" else self.run
            why = ground_words(
                self.judgement, self.comparison, self.level, own=called, briefly=called
            )
            words += f"; {why}"
        return f"{words}."

    def to_json(self) -> dict[str, Any]:
        """JSON object of `replay-jax ship --json`."""
        return {
            "run": self.run,
            "recipe": self.recipe,
            "target": self.target,
            "verdict": self.verdict,
            "ground": self.judgement.ground,
            "forgets": self.forgets,
            "baseline": self.comparison.words,
            "baseline_recipe": self.baseline_recipe,
            "baseline_runs": list(self.baseline_runs),
            "margin": self.margin,
            "generic_margin": self.generic_margin,
            **{k: v for k, v in self.comparison.to_json().items() if k != "against"},
            "sentence": self.sentence,
            "level": self.level,
        }


def ship(
    found: TargetStudy, cell: int, *, run: str, margin: float, generic_margin: float | None
) -> Shipping:
    """Compare the best setting of a cell with the best other schedule that does not replay.

    The best cell that replays was picked for being best, and that pick is counted whoever names it.

    Raises:
        UserError: a margin is no number; or at its budget no other schedule was run that does not
            replay.
    """
    for name, value in (("margin", margin), ("generic_margin", generic_margin)):
        if value is not None and not math.isfinite(value):
            raise UserError(f"{name} is {value}: give nats per token, such as 0.01")
    others = [i for i in rivals(found, cell) if i != cell]
    if not others:
        own = found.cells[cell]
        usual = own.key.protocol != "uniform" and own.key.replay_fraction == 0
        fix = "ship a run that replays" if usual else "add replay_fraction 0"
        raise UserError(
            f"{run} ({own.label}) can be compared with nothing: no other schedule without replay "
            f"was run at its budget; {fix}"
        )
    comparison = compare(found, _picked_from(found, cell), others)
    against = found.cells[comparison.against]
    return Shipping(
        run=run,
        recipe=_recipe(found.cells[cell]),
        target=found.target,
        comparison=comparison,
        baseline_runs=against.chosen.run_ids,
        baseline_recipe=_recipe(against),
        judgement=judge(found, cell, comparison, margin=margin, as_it_is=True),
        margin=margin,
        generic_margin=generic_margin,
        level=found.level,
    )


def _recipe(cell: CellResult) -> str:
    """How a cell's best setting was trained; a constant mixture has neither fraction nor place."""
    if cell.key.protocol != "uniform":
        return f"ρ {cell.key.replay_fraction:g}, {setting_words(cell)}"
    return f"{cell.chosen.target_epochs:g} epochs, {other_settings(cell)}".rstrip(", ")


def _picked_from(found: TargetStudy, cell: int) -> Sequence[int]:
    """The cells that `cell` is the best of: all that replay in its row, or itself alone."""
    key = found.cells[cell].key
    alike = [
        i
        for i, other in enumerate(found.cells)
        if replays(other)
        and (other.key.target_tokens, other.key.protocol, other.key.axes)
        == (key.target_tokens, key.protocol, key.axes)
    ]
    return alike if cell in alike and best_of(found, alike) == cell else [cell]
