"""What a budgeted study is after, and whether the runs that it compares have reached it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.advice.verdict import UNCLEAR
from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.statistics.bootstrap import RESAMPLES
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.errors import UserError


@dataclass(frozen=True)
class Goal:
    """"verdict": every answer has one; "x": the upper end of every multiplier's interval is less
    than `below` times its lower end; "nat": the interval of every gain is narrower than `below`.
    """  # fmt: skip

    kind: Literal["verdict", "x", "nat"]
    below: float = 0.0

    @property
    def words(self) -> str:
        """The goal once it is reached."""
        if self.kind == "verdict":
            return "the verdict is settled"
        unit = "times between the ends" if self.kind == "x" else "nat"
        return f"the interval is narrower than {self.below:g} {unit}"


@dataclass(frozen=True)
class Finding:
    """What the runs compared so far say.

    is_reached: of the goal. beyond: for every target whose worth lies outside its measured
    reference budgets, whether above. words: the answers, short.
    """

    is_reached: bool
    beyond: Mapping[str, bool]
    words: str


def find(
    records: Sequence[Mapping[str, Any]],
    config: AnalysisConfig,
    goal: Goal,
    *,
    questions: int,
    resamples: int = RESAMPLES,
) -> Finding:
    """Analyse the records of the runs that are compared.

    A verdict that may end a study is asked at half the doubt: with level .9 the .95 interval of
    the gain must clear zero, as a study that is looked at again and again gets more than one
    chance to be lucky. Widths are those of `config.level`, which is what is reported.
    """
    level = 1 - (1 - config.level) / 2 if goal.kind == "verdict" else config.level
    try:
        study = analyse_anyway(records, replace(config, level=level), resamples=resamples)
    except UserError as error:  # of too few runs: some failed
        return Finding(False, {}, str(error))
    answers: list[Recommendation] = []
    beyond: dict[str, bool] = {}
    words: list[str] = []
    for target in study.targets:
        try:
            found = recommend_every_group(study, target.target)
        except UserError as error:
            words.append(str(error))
            continue
        answers += found
        side = _beyond(target, found)
        if side is not None:
            beyond[target.target] = side
        words += [_short(answer) for answer in found]
    is_reached = len(answers) == questions and all(_reached(a, goal) for a in answers)
    return Finding(is_reached, beyond, "; ".join(words))


def _reached(answer: Recommendation, goal: Goal) -> bool:
    if goal.kind == "verdict":
        return answer.verdict != UNCLEAR
    if goal.kind == "nat":
        gain = answer.gain
        return gain.low is not None and gain.high is not None and gain.high - gain.low < goal.below
    worth = answer.multiplier
    if worth is None or worth.low is None or worth.high is None:
        return False
    return worth.high < goal.below * worth.low


def _beyond(study: TargetStudy, answers: Sequence[Recommendation]) -> bool | None:
    """Whether some best schedule is worth more (or less) than any measured reference budget."""
    measured = [cell.key.target_tokens for cell in study.cells if cell.is_reference]
    for answer in answers:
        tokens = study.cells[answer.best].equivalent_tokens
        if tokens is not None and tokens.extrapolated:
            return tokens.value is None or tokens.value > max(measured)
    return None


def _short(answer: Recommendation) -> str:
    worth = answer.multiplier
    place = f"{answer.target_tokens:,} tokens: {answer.verdict}"
    if worth is not None and worth.low is not None and worth.high is not None:
        return f"{place}, {worth.low:.2f} to {worth.high:.2f} times"
    gain = answer.gain
    if gain.low is None or gain.high is None:
        return place
    return f"{place}, {gain.low:+z.3f} to {gain.high:+z.3f} nat"
