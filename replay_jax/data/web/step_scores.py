"""The scores of Mind2Web (arXiv 2306.06070, section 4.1): element, operation, step and task.

A step succeeds where its element and all of its operation are right, a task where all its steps
do. Published tables average first over the steps of a task and then over tasks: `..._by_task`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replay_jax.data.web.actions import Action, read_prediction
from replay_jax.data.web.turn import WebTurn

_OPERATIONS = {"click": "CLICK", "textinput": "TYPE", "change": "SELECT"}
_VALUES = {"textinput": "text", "change": "value"}


@dataclass(frozen=True)
class StepScore:
    """Scores of one step: whether the element is right, and the operation's F1 over words."""

    element: bool
    action_f1: float

    @property
    def success(self) -> bool:
        """Whether both are all right."""
        return self.element and self.action_f1 == 1


def step_score(turn: WebTurn, prediction: str) -> StepScore:
    """The score of what a model wrote; 0 throughout where no element of the page is right."""
    predicted = read_prediction(prediction)
    if not turn.right:
        return StepScore(False, 0.0)
    given = predicted.arguments
    element = "uid" in given and given["uid"] in turn.right
    return StepScore(element, _f1(_words(predicted), _words(turn.action)))


def step_columns(
    turns: Sequence[WebTurn], predictions: Sequence[str]
) -> Mapping[str, list[float | None]]:
    """Every score of every step; of tasks at their first step, None at the others."""
    scores = [step_score(*pair) for pair in zip(turns, predictions, strict=True)]
    found: dict[str, list[float | None]] = {
        "step_success": [float(score.success) for score in scores],
        "element_accuracy": [float(score.element) for score in scores],
        "action_f1": [score.action_f1 for score in scores],
    }
    by_task: dict[str, list[int]] = {}
    for number, turn in enumerate(turns):
        by_task.setdefault(turn.demo, []).append(number)
    of_tasks: dict[str, list[float | None]] = {}
    for name, values in found.items():
        column: list[float | None] = [None] * len(turns)
        for steps in by_task.values():
            column[steps[0]] = sum(values[n] or 0.0 for n in steps) / len(steps)
        of_tasks[f"{name}_by_task"] = column
    won = [None if v is None else float(v == 1) for v in of_tasks["step_success_by_task"]]
    return {**found, **of_tasks, "task_success": won}


def _words(action: Action) -> set[str]:
    """The operation and its value as a set of words; none of what is no operation."""
    if action.intent not in _OPERATIONS:
        return set()
    name = _VALUES[action.intent] if action.intent in _VALUES else ""
    value = action.arguments[name] if name in action.arguments else ""
    return {_OPERATIONS[action.intent], *value.split()}


def _f1(said: set[str], wanted: set[str]) -> float:
    common = len(said & wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0
