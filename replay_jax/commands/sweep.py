"""Commands about a sweep: run, plan, prepare, status, report, recommend, verify."""

import argparse
import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epath
from rich.console import Console

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.config.experiment import ExperimentConfig, resolve
from replay_jax.config.recipe import Recipe, load_recipe, override, parse_overrides
from replay_jax.errors import UserError

if TYPE_CHECKING:
    from replay_jax.sweep.executors.hosts.others import Hosts

Experiments = list[tuple[ExperimentConfig, Mapping[str, Any]]]


def experiments_of(recipe: Recipe) -> Experiments:
    """The resolved configuration and the overrides of every run of a recipe.

    Raises:
        UserError: a run's configuration is wrong, or runs differ in sources or tokenizer.
    """
    found: Experiments = []
    for item in recipe.sweep:
        plain: Mapping[str, Any] = {**recipe.base, "name": recipe.name}
        for key, value in item.items():
            plain = override(plain, key, value)
        found.append((resolve(plain), item))
    for config, item in found:
        data, first = config.data, found[0][0].data
        if config.tasks != found[0][0].tasks:
            raise UserError(f"run {dict(item)} has other tasks than the first run: score all alike")
        if (data.sources, data.tokenizer, data.store_dir) != (
            first.sources,
            first.tokenizer,
            first.store_dir,
        ):
            raise UserError(
                f"run {dict(item)} has other sources or another tokenizer than the first run: "
                "declare all sources in get_config() and vary data.generic or data.target"
            )
    return found


def configs_of(experiments: Experiments) -> list[ExperimentConfig]:
    """The configurations alone."""
    return [config for config, _ in experiments]


def run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Prepare, plan, train what is missing, fit and report: on this host, or on one of several."""
    given = parse_overrides(overrides)
    if arguments.executor:
        given["execution.executor"] = arguments.executor
    recipe = load_recipe(arguments.recipe, given)
    experiments = experiments_of(recipe)
    _steps(arguments.profile_steps)
    if experiments[0][0].execution.executor == "hosts":
        from replay_jax.commands.hosts import run_on_hosts

        return run_on_hosts(arguments, recipe, experiments)
    for name in ("coordinator", "num_processes", "process_id"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--{name} is for several hosts: add --executor=hosts")
    return run_here(arguments, recipe, experiments, hosts=None)


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

    workdir = place(arguments.workdir or Path("runs") / recipe.name)
    print(f"working directory: {workdir}", flush=True)
    console, clock = Console(), _Clock()
    with clock.phase("prepare data"), preparation_shown(console) as progress:
        prepared = prepare_all(configs_of(experiments), progress)
        if hosts is not None:
            hosts.prepare(prepared.shared_facts())
    with clock.phase("plan"):
        planned = plan_sweep(experiments, found=prepared, workdir=workdir)
        print_plan(planned, console)
    remember_recipe(workdir, name=recipe.name, question=recipe.question, plan=planned.to_json())
    with clock.phase("sweep"):
        outcome = run_sweep(
            planned,
            workdir,
            stores=prepared.stores,
            ray_address=arguments.ray_address,
            profile_steps=_steps(arguments.profile_steps),
            console=console,
            hosts=hosts,
        )
    remember_session(workdir, clock.seconds, workers=outcome.workers)
    for line in outcome.failures:
        print(f"failed: {line}")
    if outcome.results:
        report_on(workdir, console)
    return 1 if outcome.failures else 0


def plan(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Show what a sweep would do; data that is prepared is used, and none is touched otherwise."""
    from replay_jax.commands.plan_view import print_estimate, print_ledgers
    from replay_jax.commands.preparing import find_all
    from replay_jax.compile.peak import matmul_peak
    from replay_jax.sweep.drive.drawing import print_plan
    from replay_jax.sweep.plan.plan import plan_sweep

    recipe = load_recipe(arguments.recipe, parse_overrides(overrides))
    experiments = experiments_of(recipe)
    found = find_all(configs_of(experiments))
    workdir = place(arguments.workdir) if arguments.workdir else None
    planned = plan_sweep(experiments, found=found, workdir=workdir)
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
    """Fit the finished runs of a working directory and write its report."""
    from replay_jax.commands.reporting import report_on

    report_on(existing(arguments.workdir), Console())
    return 0


def recommend(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    """Print which replay fraction to use, how sure that is, and what to run next.

    With --json one object for a single target, and an object by target name for several; a target
    for which there is nothing to compare has the reason in words in place of its object.
    """
    from replay_jax.commands.reporting import study_of
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
    """Recompute ledgers from the stored configurations and compare with what was counted."""
    from replay_jax.sweep.store.verify import verify as verify_workdir

    differences, checked = verify_workdir(existing(arguments.workdir))
    for line in differences:
        print(line)
    print(f"{checked} runs checked, {len(differences)} differences")
    return 1 if differences else 0


def _advice_text(given: Recommendation) -> str:
    lines = [given.sentence, *(f"- {reason}" for reason in given.reasons)]
    for option in given.next_runs:
        first = ", ".join(f"{key} = {value}" for key, value in option.runs[0].items())
        lines.append(f"next, {option.why}: {len(option.runs)} runs, such as {first}")
    return "\n".join(lines)


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


def place(workdir: str | Path) -> epath.Path:
    """A working directory, which may be a bucket (gs://bucket/name).

    Raises:
        UserError: a bucket that cannot be reached, or an address that lacks a slash and would be
            taken for a folder here.
    """
    text = os.fspath(workdir)
    if re.match(r"(gs|s3|az):/?(?!/)", text):
        scheme, rest = text.split(":", 1)
        raise UserError(f"'{text}' lacks a slash: write {scheme}://{rest.lstrip('/')}")
    if "://" not in text:
        return epath.Path(text)
    if not re.match(r"(gs|s3|az)://[^/]", text):
        raise UserError(f"'{text}' is neither a folder nor a place in a bucket, gs://bucket/name")
    path = epath.Path(text)
    try:
        path.exists()
    except Exception as error:
        why = str(error).strip().split("\n")[0] or type(error).__name__
        needed = ": pip install 'replay-jax[gcs]'" if isinstance(error, ImportError) else ""
        raise UserError(f"cannot reach {text}: {why}{needed}") from error
    return path


def existing(workdir: str) -> epath.Path:
    """A working directory that is there; raises UserError for any other."""
    path = place(workdir)
    if not path.is_dir():
        raise UserError(f"no working directory '{path}': give the folder that `run` printed")
    return path


def _steps(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(f"--profile_steps={text} is not of the form A:B with A < B")
    return int(match[1]), int(match[2])
