"""The advice that a report gives: every target's recommendations, and their JSON."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.advice.task_worth import MEASURES, ScoreCurve, score_curve
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.study import Study, TargetStudy
from replay_jax.analysis.study.task_scores import task_names
from replay_jax.errors import UserError
from replay_jax.progress import step_by_step

# Target to its recommendations, the one to act on first, or in words why there is none.
Advice = Mapping[str, tuple[Recommendation, ...] | str]


def advise(
    study: Study, *, complete: bool = False, second_opinion: bool = False
) -> dict[str, tuple[Recommendation, ...] | str]:
    """Return for every target its recommendations, or in words why nothing can be recommended.

    There is one for every budget, protocol and further axis. `complete`: every planned run has
    finished, so that runs which others lead one to expect are not missing, only never asked for.
    `second_opinion`: each with that of a Bayesian fit of the same runs (analysis/bayes).

    Raises:
        UserError: a second opinion is asked for, and NumPyro is not installed.
    """
    if second_opinion and importlib.util.find_spec("numpyro") is None:
        raise UserError(
            "a second opinion needs NumPyro, which is not installed; run "
            "pip install 'replay-jax[bayes]'"
        )
    advice: dict[str, tuple[Recommendation, ...] | str] = {}
    for target in step_by_step(study.targets, "weighing the answers"):
        try:
            found = recommend_every_group(study, target.target)
        except UserError as error:
            advice[target.target] = str(error)
        else:
            found = tuple(map(_planned, found)) if complete else found
            advice[target.target] = _twice(target, found) if second_opinion else found
    return advice


def _twice(study: TargetStudy, found: tuple[Recommendation, ...]) -> tuple[Recommendation, ...]:
    """Recommendations with the second opinion; its sampler is imported only here."""
    from replay_jax.analysis.bayes.second import with_opinions

    return with_opinions(study, found)


Plain = Mapping[str, Any]


def by_target(
    advice: Advice,
    *,
    value_of: Callable[[Plain], Plain] = lambda said: said,
    beside: Callable[[Recommendation], Plain] = lambda found: {},
) -> dict[str, Any]:
    """JSON of `recommend`: one object for a single target, by target name for several.

    It is that of the group to act on; `others` are those of all other groups. Where
    nothing can be recommended the verdict says why. `value_of` gives overrides the values that
    stand in the study by name. `beside` gives what is said of a recommendation beside its
    loss in nats (`beside_loss`).
    """
    found = {target: _plain_advice(given, value_of, beside) for target, given in advice.items()}
    return found if len(found) > 1 else next(iter(found.values()))


def _plain_advice(
    given: tuple[Recommendation, ...] | str,
    value_of: Callable[[Plain], Plain],
    beside: Callable[[Recommendation], Plain],
) -> dict[str, Any]:
    if isinstance(given, str):
        return {"verdict": given}
    first, *others = ({**each.to_json(), **beside(each)} for each in given)
    for each in (first, *others):
        each["overrides"] = value_of(each["overrides"])
        for option in each["next_runs"]:
            option["runs"] = [value_of(run) for run in option["runs"]]
    return {**first, "others": others}


def beside_loss(study: Study, records: Sequence[Plain]) -> Callable[[Recommendation], Plain]:
    """What gives a recommendation's gain over its rival in other measures than nats per token.

    `tasks`: its worth by the scores of each task that all runs have; `gain_bits_per_byte`: null
    where the bytes of the held-out text are not known.
    """
    curves: dict[str, list[ScoreCurve]] = {}
    for target in study.targets:
        own = [record for record in records if record["target"] == target.target]
        by_id = {record["id"]: record for record in own}
        curves[target.target] = [
            score_curve(target, by_id, task, by) for task in task_names(own) for by in MEASURES
        ]

    def beside(found: Recommendation) -> Plain:
        per_byte = study.target(found.target).bits_per_nat
        return {
            "tasks": [c.to_json(found.best, found.baseline) for c in curves[found.target]],
            "gain_bits_per_byte": None if per_byte is None else _ends(found.gain.times(per_byte)),
        }

    return beside


def _ends(found: Interval) -> dict[str, float | None]:
    return {"value": found.value, "low": found.low, "high": found.high}


def _planned(found: Recommendation) -> Recommendation:
    """Without what others lead one to expect, where everything that was asked for is there."""
    kept = tuple(caution for caution in found.cautions if caution.kind != "incomplete")
    return replace(found, cautions=kept)
