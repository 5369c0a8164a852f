"""`run` on several hosts at once: every host is given the same command, and all end alike."""

import argparse
import os
import signal
import sys
from collections.abc import Mapping

from replay_jax.commands.running import run_here
from replay_jax.config.experiments import Experiments, configs_of
from replay_jax.config.recipe import Recipe
from replay_jax.errors import UserError
from replay_jax.sweep.executors.hosts.member import HostMember
from replay_jax.sweep.executors.hosts.others import Hosts, LostHost
from replay_jax.training.hosts import join

# How long to wait for hosts that were started later.
_ROLL_SECONDS = 300.0


def run_on_hosts(arguments: argparse.Namespace, recipe: Recipe, experiments: Experiments) -> int:
    """Be one of the hosts: process 0 does all of `run`, the others train with it.

    Raises:
        UserError: a host does not arrive, or the cluster is not known.
    """
    roll = join(
        arguments.coordinator,
        arguments.num_processes,
        arguments.process_id,
        timeout=_ROLL_SECONDS,
    )
    if roll.cluster.process_id == 0:
        return _lead(Hosts(roll), arguments, recipe, experiments)

    def prepare() -> Mapping[str, str]:
        from replay_jax.commands.preparing import prepare_all

        # Process 0 is done: on a shared path all is there, on a path of its own nothing is.
        return prepare_all(configs_of(experiments), None).shared_facts()

    return HostMember(roll, prepare).serve()


def _lead(
    hosts: Hosts, arguments: argparse.Namespace, recipe: Recipe, experiments: Experiments
) -> int:
    """Run the sweep, and have all hosts end with its exit code, whatever happens."""
    try:
        code = run_here(arguments, recipe, experiments, hosts=hosts)
    except BaseException as error:
        code, reason = _verdict(error)
        hosts.end(code, reason)
        if isinstance(error, LostHost) or hosts.is_stuck:
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
        case LostHost():
            return 1, str(error)
        case _:
            return 1, f"process 0 failed: {type(error).__name__}: {error}"
