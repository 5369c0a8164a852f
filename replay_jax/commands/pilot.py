"""The command `pilot`: a small study that says how to schedule a large run."""

import argparse
from collections.abc import Sequence
from fractions import Fraction

from rich.console import Console

from replay_jax.config.pilot import Pilot, pilot_of
from replay_jax.config.recipe import load_recipe, parse_overrides
from replay_jax.errors import UserError
from replay_jax.library.planning import plan
from replay_jax.model.architecture import parameter_counts
from replay_jax.sweep.drive.drawing import print_plan


def pilot(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Plan the pilots of a config; without --plan train them, then print what they recommend."""
    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    share = _fraction(arguments.fraction)
    planned = pilot_of(recipe, share, seeds=arguments.seeds)
    console = Console(markup=False, emoji=False)
    console.print(_words(planned), highlight=False)
    if arguments.plan:
        print_plan(plan(planned.recipe, arguments.workdir), console)
        return 0
    from replay_jax.library.piloting import pilot as train

    for found in train(recipe, share, arguments.workdir, seeds=arguments.seeds, console=console):
        print(f"{found.target}: {found.sentence}")
        for line in found.why:
            print(f"- {line}")
        if found.overrides is None:
            print("so nothing is carried over to full size")
        else:
            print(f"at full size, as a run of sweep(): {found.overrides}")
    return 0


def _words(planned: Pilot) -> str:
    """What a pilot is beside the large run, in one sentence."""
    large, small = planned.tokens_per_parameter
    own = parameter_counts(planned.model).total
    return (
        f"{len(planned.recipe.sweep)} pilots with {planned.share} of the tokens and a model of "
        f"{own:,} parameters ({parameter_counts(planned.large_model).total:,} at full size): "
        f"{small:.3g} tokens a parameter, where the large run has {large:.3g}"
    )


def _fraction(words: str) -> Fraction:
    try:
        return Fraction(words)
    except (ValueError, ZeroDivisionError):
        raise UserError(f"--fraction is '{words}': write a share such as 1/16") from None
