"""Pilots of a large run, trained, and what they say about it."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from etils import epath
from rich.console import Console

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.advice.pilots import transfer
from replay_jax.config.pilot import Pilot, pilot_of
from replay_jax.config.recipe import Recipe
from replay_jax.errors import UserError
from replay_jax.library.gathering import gather
from replay_jax.library.running import run
from replay_jax.sweep.store.places import place


@dataclass(frozen=True)
class Piloted:
    """What pilots say of one target: the answer in words, and the large run's overrides.

    `overrides` are None where the pilots cannot tell; `why` then says so.
    """

    target: str
    sentence: str
    overrides: dict[str, Any] | None
    why: tuple[str, ...]


def pilot(
    recipe: Recipe,
    share: Fraction,
    workdir: epath.PathLike | None = None,
    *,
    seeds: int = 3,
    console: Console | None = None,
) -> tuple[Piloted, ...]:
    """Train the pilots of a recipe and say which rho, E and alpha to use at full size.

    Examples:
        >>> recipe = replay_jax.load_recipe("paper/basque_8b")  # doctest: +SKIP
        >>> replay_jax.pilot(recipe, Fraction(1, 64))[0].overrides  # doctest: +SKIP

    Args:
        recipe: of the large run.
        share: of its tokens that a pilot has.
        workdir: where the pilots' results go; None for runs/<name>_pilot.
        seeds: of every pilot.
        console: where progress and the tables go; None for silence.

    Raises:
        UserError: no such pilot (`config.pilot.pilot_of`), or a run that cannot be.
    """
    planned = pilot_of(recipe, share, seeds=seeds)
    run(planned.recipe, workdir, console=console)
    return said(planned, place(workdir if workdir is not None else f"runs/{planned.recipe.name}"))


def said(planned: Pilot, workdir: epath.Path) -> tuple[Piloted, ...]:
    """What the finished pilots of a working directory say, one answer a target."""
    study = gather([workdir]).study
    answers = []
    for target in study.targets:
        try:
            found = recommend_every_group(study, target.target)[0]
        except UserError as error:
            answers.append(Piloted(target.target, str(error), None, ()))
            continue
        try:
            overrides = transfer(found, planned.share)
        except UserError:
            overrides = None
        answers.append(Piloted(target.target, found.sentence, overrides, found.reasons))
    return tuple(answers)
