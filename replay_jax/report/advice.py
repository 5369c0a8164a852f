"""The advice that a report gives: every target's recommendations, and their JSON."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.study.study import Study
from replay_jax.errors import UserError

# Target to its recommendations, the one to act on first, or in words why there is none.
Advice = Mapping[str, tuple[Recommendation, ...] | str]


def advise(study: Study, *, complete: bool = False) -> dict[str, tuple[Recommendation, ...] | str]:
    """Return for every target its recommendations, or in words why nothing can be recommended.

    There is one for every budget, protocol and further axis. `complete`: every planned run has
    finished, so that runs which others lead one to expect are not missing, only never asked for.
    """
    advice: dict[str, tuple[Recommendation, ...] | str] = {}
    for target in study.targets:
        try:
            found = recommend_every_group(study, target.target)
        except UserError as error:
            advice[target.target] = str(error)
        else:
            advice[target.target] = tuple(map(_planned, found)) if complete else found
    return advice


Plain = Mapping[str, Any]


def by_target(
    advice: Advice, *, value_of: Callable[[Plain], Plain] = lambda said: said
) -> dict[str, Any]:
    """JSON of `recommend`: one object for a single target, by target name for several.

    It is that of the group to act on; `others` are those of all other groups. Where
    nothing can be recommended the verdict says why. `value_of` gives overrides the values that
    stand in the study by name.
    """
    found = {target: _plain_advice(given, value_of) for target, given in advice.items()}
    return found if len(found) > 1 else next(iter(found.values()))


def _plain_advice(
    given: tuple[Recommendation, ...] | str, value_of: Callable[[Plain], Plain]
) -> dict[str, Any]:
    if isinstance(given, str):
        return {"verdict": given}
    first, *others = (each.to_json() for each in given)
    for each in (first, *others):
        each["overrides"] = value_of(each["overrides"])
        for option in each["next_runs"]:
            option["runs"] = [value_of(run) for run in option["runs"]]
    return {**first, "others": others}


def _planned(found: Recommendation) -> Recommendation:
    """Without what others lead one to expect, where everything that was asked for is there."""
    kept = tuple(caution for caution in found.cautions if caution.kind != "incomplete")
    return replace(found, cautions=kept)
