"""All of `run` in one process: prepare, plan, train what is missing, fit and report."""

import argparse
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from replay_jax.config.experiments import Experiments, configs_of
from replay_jax.config.recipe import Recipe
from replay_jax.errors import UserError
from replay_jax.sweep.store.places import place

if TYPE_CHECKING:
    from replay_jax.sweep.executors.hosts.others import Hosts


def run_here(
    arguments: argparse.Namespace,
    recipe: Recipe,
    experiments: Experiments,
    *,
    hosts: "Hosts | None",
) -> int:
    """All of `run` in this process; `hosts` are those that train with it, if there are any."""
    from replay_jax.commands.preparing import preparation_shown, prepare_all
    from replay_jax.commands.reporting import remember_recipe, remember_session, report_on
    from replay_jax.sweep.drive.drawing import print_plan
    from replay_jax.sweep.drive.engine import run_sweep
    from replay_jax.sweep.plan.plan import plan_sweep
    from replay_jax.sweep.store.workdir import WorkStore

    workdir = place(arguments.workdir or Path("runs") / recipe.name)
    print(f"working directory: {workdir}", flush=True)
    console, clock = Console(), _Clock()
    with clock.phase("prepare data"), preparation_shown(console) as progress:
        prepared = prepare_all(configs_of(experiments), progress)
        if hosts is not None:
            hosts.prepare(prepared.shared_facts())
    with clock.phase("plan"):
        planned = plan_sweep(experiments, found=prepared, done=WorkStore(workdir).done())
        print_plan(planned, console)
    remember_recipe(workdir, name=recipe.name, question=recipe.question, plan=planned.to_json())
    with clock.phase("sweep"):
        outcome = run_sweep(
            planned,
            workdir,
            stores=prepared.stores,
            ray_address=arguments.ray_address,
            profile_steps=profile_steps(arguments.profile_steps),
            console=console,
            hosts=hosts,
        )
    remember_session(workdir, clock.seconds, workers=outcome.workers)
    for line in outcome.failures:
        print(f"failed: {line}")
    if outcome.results:
        report_on([workdir], console)
    return 1 if outcome.failures else 0


class _Clock:
    """Wall seconds of a command by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start


def profile_steps(text: str | None) -> tuple[int, int] | None:
    """The updates to trace of `--profile_steps`; raises UserError for any other text."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"--profile_steps={text} is not of the form A:B with A < B")
    return int(match[1]), int(match[2])
