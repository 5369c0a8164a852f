"""Commands about a sweep: run, plan, prepare, status, report, recommend, verify."""

import argparse
import json
from collections.abc import Sequence

from rich.console import Console

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.commands.running import profile_steps, run_here
from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe, parse_overrides
from replay_jax.errors import UserError
from replay_jax.sweep.store.places import existing, place


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Prepare, plan, train what is missing, fit and report: on this host, or on one of several."""
    given = parse_overrides(overrides)
    if arguments.executor:
        given["execution.executor"] = arguments.executor
    recipe = load_recipe(arguments.recipe, given)
    experiments = experiments_of(recipe)
    profile_steps(arguments.profile_steps)
    if experiments[0][0].execution.executor == "hosts":
        from replay_jax.commands.hosts import run_on_hosts

        return run_on_hosts(arguments, recipe, experiments)
    for name in ("coordinator", "num_processes", "process_id"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} is for several hosts: add --executor=hosts")
    return run_here(arguments, recipe, experiments, hosts=None)


def plan(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Show what a sweep would do; data that is prepared is used, and none is touched otherwise."""
    from replay_jax.commands.plan_view import print_estimate, print_ledgers
    from replay_jax.commands.preparing import find_all
    from replay_jax.compile.peak import matmul_peak
    from replay_jax.sweep.drive.drawing import print_plan
    from replay_jax.sweep.plan.plan import plan_sweep
    from replay_jax.sweep.plan.work import Done
    from replay_jax.sweep.store.workdir import WorkStore

    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    experiments = experiments_of(recipe)
    found = find_all(configs_of(experiments))
    done = WorkStore(place(arguments.workdir)).done() if arguments.workdir else Done()
    planned = plan_sweep(experiments, found=found, done=done)
    if arguments.json:
        print(json.dumps(planned.to_json()))
    else:
        console = Console()
        print_ledgers(planned, console)
        print_plan(planned, console)
        print_estimate(planned, matmul_peak(), console)
    return 0


def prepare(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Tokenize all sources of a config and fetch its models; what is there is left alone."""
    from replay_jax.commands.preparing import preparation_shown, prepare_all

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
    """Fit all finished runs of working directories and write a report into the first."""
    from replay_jax.commands.reporting import report_on

    report_on([existing(workdir) for workdir in arguments.workdirs], Console())
    return 0


def recommend(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print which replay fraction to use, how sure that is, and what to run next.

    With --json one object for a single target, and an object by target name for several: that of
    the group to act on, with those of all others (budget, protocol, further axes) under `others`.
    A target for which there is nothing to compare has the reason in words as its verdict.
    """
    from replay_jax.commands.gathering import PRESET_NAMES, gather
    from replay_jax.report.advice import advise, by_target
    from replay_jax.report.naming import unnamed

    gathered = gather([existing(workdir) for workdir in arguments.workdirs])
    advice = advise(gathered.study)
    if arguments.json:
        found = by_target(advice, value_of=lambda said: unnamed(said, gathered.plain, PRESET_NAMES))
        print(json.dumps(found))
    else:
        for target, given in advice.items():
            print(f"{target}: {given if isinstance(given, str) else _advice_text(given)}")
        for line in gathered.sources if len(gathered.sources) > 1 else ():
            print(f"from {line}")
    return 0


def verify(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Recompute ledgers from the stored configurations and compare with what was counted."""
    from replay_jax.sweep.store.verify import verify as verify_workdir

    differences, checked = verify_workdir(existing(arguments.workdir))
    for line in differences:
        print(line)
    print(f"{checked} runs checked, {len(differences)} differences")
    return 1 if differences else 0


def _advice_text(given: Sequence[Recommendation]) -> str:
    lines = []
    for found in given:
        lines += [found.sentence, *(f"- {reason}" for reason in found.reasons)]
    for option in given[0].next_runs:
        first = ", ".join(f"{key} = {value}" for key, value in option.runs[0].items())
        lines.append(f"next, {option.why}: {len(option.runs)} runs, such as {first}")
    return "\n".join(lines)
