"""Commands about a sweep: plan, prepare, status, report, recommend, verify."""

import argparse
import json
from collections.abc import Sequence

from rich.console import Console

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe, parse_overrides
from replay_jax.sweep.store.places import existing


def plan(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Show what a sweep would do; data that is prepared is used, and none is touched otherwise."""
    from replay_jax.commands.plan_view import print_estimate, print_ledgers
    from replay_jax.library.planning import plan as plan_recipe
    from replay_jax.sweep.drive.drawing import print_plan

    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    planned = plan_recipe(recipe, arguments.workdir)
    if arguments.json:
        print(json.dumps(planned.to_json()))
    else:
        console = Console()
        print_ledgers(planned, console)
        print_plan(planned, console)
        print_estimate(planned, console)
    return 0


def prepare(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Tokenize all sources of a config and fetch its models; what is there is left alone."""
    from replay_jax.library.preparing import preparation_shown, prepare_all

    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    console = Console()
    with preparation_shown(console) as progress:
        prepared = prepare_all(configs_of(experiments_of(recipe)), progress)
    for name, store in prepared.stores.items():
        train, held_out = (len(store.tokens(split)) for split in ("train", "validation"))
        print(f"{name}: {train:,} training tokens, {held_out:,} held out, in {store.path}")
    for name, model in prepared.weights.items():
        print(f"{name}: pre-trained model, in {model.folder}")
    for name, task in prepared.tasks.items():
        print(f"{name}: {task.items:,} items, rows of up to {task.length} tokens, in {task.path}")
    return 0


def status(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Say of every run where it stands."""
    from replay_jax.sweep.drive.status import render_status, sweep_status

    found = sweep_status(existing(arguments.workdir))
    if arguments.json:
        print(json.dumps(found))
    else:
        Console().print(render_status(found))
    return 0


def report(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Fit the finished runs of a working directory and write its report."""
    from replay_jax.library.reporting import report_on

    report_on(existing(arguments.workdir), Console())
    return 0


def recommend(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print which replay fraction to use, how sure that is, and what to run next.

    With --json one object for a single target, and an object by target name for several; a target
    for which there is nothing to compare has the reason in words in place of its object.
    """
    from replay_jax.library.reporting import study_of
    from replay_jax.report.answer import advise

    study, _records = study_of(existing(arguments.workdir))
    advice = advise(study)
    if arguments.json:
        found = {
            target: given.to_json() if isinstance(given, Recommendation) else {"verdict": given}
            for target, given in advice.items()
        }
        print(json.dumps(found if len(found) > 1 else next(iter(found.values()))))
    else:
        for target, given in advice.items():
            print(
                f"{target}: {_advice_text(given) if isinstance(given, Recommendation) else given}"
            )
    return 0


def verify(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Recompute ledgers and records from what is stored and compare."""
    from replay_jax.sweep.store.verify import mixed_environments
    from replay_jax.sweep.store.verify import verify as verify_workdir

    workdir = existing(arguments.workdir)
    differences, checked = verify_workdir(workdir)
    for line in (*mixed_environments(workdir), *differences):
        print(line)
    print(f"{checked} runs checked, {len(differences)} differences")
    return 1 if differences else 0


def _advice_text(given: Recommendation) -> str:
    lines = [given.sentence, *(f"- {reason}" for reason in given.reasons)]
    for option in given.next_runs:
        first = ", ".join(f"{key} = {value}" for key, value in option.runs[0].items())
        lines.append(f"next, {option.why}: {len(option.runs)} runs, such as {first}")
    return "\n".join(lines)
