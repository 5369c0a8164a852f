"""All of a sweep from a recipe: prepare, plan, train what is missing, fit and report."""

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from etils import epath
from rich.console import Console

from replay_jax.config.experiments import Experiments, configs_of, experiments_of
from replay_jax.config.recipe import Recipe, command_line
from replay_jax.library.gathering import BUDGET
from replay_jax.library.preparing import Prepared, preparation_shown, prepare_all
from replay_jax.sweep.drive.coordinator import Outcome
from replay_jax.sweep.drive.drawing import print_plan
from replay_jax.sweep.drive.engine import run_sweep
from replay_jax.sweep.plan.plan import Plan, plan_sweep
from replay_jax.sweep.store.known import done
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.places import place
from replay_jax.sweep.store.workdir import WorkStore

if TYPE_CHECKING:
    from replay_jax.sweep.executors.hosts.others import Hosts


def run(
    recipe: Recipe,
    workdir: epath.PathLike | None = None,
    *,
    ray_address: str | None = None,
    profile_steps: tuple[int, int] | None = None,
    console: Console | None = None,
    hosts: "Hosts | None" = None,
    accept_environment: bool = False,
    retry_failed: bool = False,
) -> Outcome:
    """Train what is missing of a recipe's sweep, then analyse it and write its report.

    Interrupt it at any time (Ctrl-C, SIGTERM, kill -9): the same call goes on from there. Nothing
    is written into the working directory before its lock is held, and it is held to the end.

    Examples:
        >>> recipe = replay_jax.load_recipe("configs/smoke.py")  # doctest: +SKIP
        >>> replay_jax.run(recipe, "runs/smoke").failures  # doctest: +SKIP
        ()

    Args:
        recipe: what to train.
        workdir: where results go, a folder or gs://bucket/name; None for runs/<name of the recipe>.
        ray_address: an existing Ray cluster, for `execution.executor` "ray".
        profile_steps: first and last update to trace with xprof; None for no trace.
        console: where progress and the tables go; None for silence.
        hosts: the others, for `execution.executor` "hosts"; this is process 0.
        accept_environment: go on in a directory of other code, versions or devices.
        retry_failed: train again what failed before in this environment, such as a diverging loss.

    Raises:
        UserError: bad input, or a directory in use, of other data, version or environment.
        KeyboardInterrupt: interrupted; all states are saved.
    """
    where = place(workdir if workdir is not None else default_workdir(recipe))
    console = console or Console(quiet=True)
    console.print(f"working directory: {where}", highlight=False, markup=False, soft_wrap=True)
    experiments, clock = experiments_of(recipe), Clock()
    with WorkdirLock(where, say=plainly(console)) as lock:
        with clock.phase("prepare data"):
            found = prepared(experiments, console, hosts)
        with clock.phase("plan"):
            planned = _planned(experiments, found, where, console)
        with clock.phase("sweep"):
            outcome = run_sweep(
                planned,
                lock,
                stores=found.stores,
                about=about_sweep(recipe, where, planned),
                ray_address=ray_address,
                profile_steps=profile_steps,
                console=console,
                hosts=hosts,
                accept_environment=accept_environment,
                retry_failed=retry_failed,
            )
        _conclude(where, outcome, clock.seconds, console)
    return outcome


def plainly(console: Console) -> Callable[[str], None]:
    """Lines as they are, onto a console."""
    return lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)


def prepared(experiments: Experiments, console: Console, hosts: "Hosts | None") -> Prepared:
    """All that the runs read, made or found, and shown meanwhile."""
    with preparation_shown(console) as progress:
        found = prepare_all(configs_of(experiments), progress)
    if hosts is not None:
        hosts.prepare(found.shared_facts())
    return found


def _planned(
    experiments: Experiments, found: Prepared, where: epath.Path, console: Console
) -> Plan:
    """The plan of the whole sweep, which is compared as a whole from here on."""
    planned = plan_sweep(experiments, found=found, done=done(WorkStore(where)))
    print_plan(planned, console)
    (where / BUDGET).unlink(missing_ok=True)
    return planned


def _conclude(
    workdir: epath.Path, outcome: Outcome, seconds: Mapping[str, float], console: Console
) -> None:
    """Say what failed, and report what did not."""
    # The analysis and the drawing, seconds of imports: training need not wait for them, and hosts
    # that only train never have them.
    from replay_jax.library.reporting import remember_session, report_on

    remember_session(workdir, seconds, workers=outcome.workers)
    for line in outcome.failures:
        console.print(f"failed: {line}", highlight=False, markup=False, soft_wrap=True)
    if outcome.results:
        report_on([workdir], console)


def default_workdir(recipe: Recipe) -> str:
    """Where the results of a recipe go if nothing is said: runs/<its name>."""
    return f"runs/{recipe.name}"


def about_sweep(
    recipe: Recipe, workdir: epath.Path, plan: Plan, **asked: str | None
) -> dict[str, Any]:
    """The words and totals that a report needs and results do not hold.

    asked: what the command was given beside the recipe, by flag.
    """
    flags = "".join(
        f" --{flag}={shlex.quote(value)}" for flag, value in asked.items() if value is not None
    )
    return {
        "name": recipe.name,
        "question": recipe.question,
        "command": f"{command_line('run', recipe)}{flags} --workdir={workdir}",
        "steps_alone": plan.steps_naive,
        "steps_planned": plan.steps_planned,
    }


class Clock:
    """Wall seconds of a command by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens meanwhile for a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - start
