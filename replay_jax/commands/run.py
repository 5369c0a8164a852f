"""`run`: train a sweep and report it, on this host or on several given the same command."""

import argparse
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import Recipe, load_recipe, parse_overrides
from replay_jax.errors import UserError
from replay_jax.library.preparing import prepare_all
from replay_jax.library.running import run as run_recipe
from replay_jax.progress import stage

if TYPE_CHECKING:
    from replay_jax.sweep.executors.hosts.others import Hosts

# How long to wait for hosts that were started later.
_ROLL_SECONDS = 300.0


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Prepare, plan, train what is missing, fit and report."""
    given = parse_overrides(overrides)
    if arguments.executor:
        given["execution.executor"] = arguments.executor
    recipe = load_recipe(arguments.recipe, given)
    _profile_steps(arguments.profile_steps)
    within = arguments.budget is not None or arguments.until is not None
    if experiments_of(recipe)[0][0].execution.executor == "hosts" and not within:
        return _on_hosts(arguments, recipe)
    for name in ("coordinator", "num_processes", "process_id"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} is for several hosts: add --executor=hosts")
    return _within(arguments, recipe) if within else _run(arguments, recipe, hosts=None)


def _within(arguments: argparse.Namespace, recipe: Recipe) -> int:
    """As much of the sweep as a budget allows or a goal takes."""
    # The rule reads the analysis, which takes seconds to import.
    from replay_jax.library.budgeted.run import run_within

    outcome = run_within(
        recipe,
        arguments.workdir,
        budget=arguments.budget,
        until=arguments.until,
        console=Console(markup=False, emoji=False),
        ray_address=arguments.ray_address,
        profile_steps=_profile_steps(arguments.profile_steps),
        accept_environment=arguments.accept_environment,
        retry_failed=arguments.retry_failed,
    )
    return 1 if outcome.failures else 0


def _run(arguments: argparse.Namespace, recipe: Recipe, *, hosts: "Hosts | None") -> int:
    outcome = run_recipe(
        recipe,
        arguments.workdir,
        ray_address=arguments.ray_address,
        profile_steps=_profile_steps(arguments.profile_steps),
        console=Console(markup=False, emoji=False),
        hosts=hosts,
        accept_environment=arguments.accept_environment,
        retry_failed=arguments.retry_failed,
    )
    return 1 if outcome.failures else 0


def _on_hosts(arguments: argparse.Namespace, recipe: Recipe) -> int:
    """Be one of the hosts: process 0 does all of `run`, the others train with it.

    Raises:
        UserError: a host does not arrive, or the cluster is not known.
    """
    # What trains in this process is slow to import.
    from replay_jax.sweep.executors.hosts.member import HostMember
    from replay_jax.sweep.executors.hosts.others import Hosts
    from replay_jax.training.mesh.hosts import join

    with stage("waiting for all hosts"):
        roll = join(
            arguments.coordinator,
            arguments.num_processes,
            arguments.process_id,
            timeout=_ROLL_SECONDS,
        )
    if roll.cluster.process_id == 0:
        return _lead(Hosts(roll), arguments, recipe)

    def prepare() -> Mapping[str, str]:
        # Process 0 is done: on a shared path all is there, on a path of its own nothing is.
        return prepare_all(configs_of(experiments_of(recipe)), None).shared_facts()

    return HostMember(roll, prepare).serve()


def _lead(hosts: "Hosts", arguments: argparse.Namespace, recipe: Recipe) -> int:
    """Run the sweep, and have all hosts end with its exit code, whatever happens."""
    from replay_jax.sweep.executors.hosts.others import LostHost

    try:
        code = _run(arguments, recipe, hosts=hosts)
    except BaseException as error:
        lost = isinstance(error, LostHost)
        code, reason = (1, str(error)) if lost else _verdict(error)
        hosts.end(code, reason)
        if lost or hosts.is_stuck:
            # A thread waits for hosts that never come, and JAX would wait for them at the exit.
            print(f"replay-jax: {reason or 'interrupted'}", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        raise
    hosts.end(code, None)
    return code


def _verdict(error: BaseException) -> tuple[int, str | None]:
    """Exit code and reason, as `main` gives them."""
    match error:
        case UserError():
            return 2, str(error)
        case KeyboardInterrupt():
            return 128 + signal.SIGINT, None
        case _:
            return 1, f"process 0 failed: {type(error).__name__}: {error}"


def _profile_steps(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"--profile_steps={text} is not of the form A:B with A < B")
    return int(match[1]), int(match[2])
