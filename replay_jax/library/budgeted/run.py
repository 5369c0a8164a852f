"""As much of a sweep as a budget allows: look, train what the rule adds, look again.

What the rule decides follows from the config and the finished runs alone, so the same command goes
on after an interruption as if there had been none.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from etils import epath
from rich.console import Console

from replay_jax.analysis.budget.goal import Goal, find
from replay_jax.analysis.budget.planned import Grid
from replay_jax.analysis.budget.rule import Decision, Rules, decide, least
from replay_jax.config.experiments import experiments_of
from replay_jax.config.recipe import Recipe
from replay_jax.errors import UserError
from replay_jax.library.budgeted.asked import Allowance, allowance, goal, said
from replay_jax.library.budgeted.costs import grid_of_plan, limit
from replay_jax.library.budgeted.written import ended_words, fact, look_words
from replay_jax.library.gathering import BUDGET
from replay_jax.library.reporting import remember_session, report_on, workers_of
from replay_jax.library.running import Clock, about_sweep, default_workdir, plainly, prepared
from replay_jax.sweep.drive.coordinator import Outcome
from replay_jax.sweep.drive.drawing import print_plan
from replay_jax.sweep.drive.engine import KeptExecutor, run_sweep
from replay_jax.sweep.plan.part import part_of
from replay_jax.sweep.plan.plan import Plan, plan_sweep, refresh
from replay_jax.sweep.plan.work import Done
from replay_jax.sweep.store import known
from replay_jax.sweep.store.facts import write_fact
from replay_jax.sweep.store.lock import WorkdirLock
from replay_jax.sweep.store.places import place
from replay_jax.sweep.store.workdir import WorkStore


def run_within(
    recipe: Recipe,
    workdir: epath.PathLike | None = None,
    *,
    budget: str | None = None,
    until: str | None = None,
    console: Console | None = None,
    **how: Any,
) -> Outcome:
    """Train the runs of a recipe that say most, until a goal is reached or a budget is spent.

    Example:
        >>> recipe = replay_jax.load_recipe("quickstart")  # doctest: +SKIP
        >>> replay_jax.run_within(recipe, budget="3200steps").results  # doctest: +SKIP
        46

    Args:
        recipe: whose runs may be trained.
        workdir: as for `run`.
        budget: "2h", "90m", "3e15flops", "2000steps"; None for no limit.
        until: "interval < 1.3x" or "interval < 0.08 nat"; None: until there is a verdict.
        console: where progress and the tables go; None for silence.
        how: of `run`: ray_address, profile_steps, accept_environment, retry_failed.

    Raises:
        UserError: a budget or goal that is none, too small a budget, a sweep of which nothing can
            be chosen, and all that `run` raises.
        KeyboardInterrupt: interrupted; all states are saved.
    """
    allowance(budget), goal(until)  # mistakes before anything else
    where = place(workdir if workdir is not None else default_workdir(recipe))
    console = console or Console(quiet=True)
    say = plainly(console)
    say(f"working directory: {where}")
    experiments, clock = experiments_of(recipe), Clock()
    if experiments[0][0].execution.executor == "hosts":
        raise UserError(
            "a budget trains in several rounds, which the executor 'hosts' does not: use 'local' "
            "or 'ray', or leave --budget and --until out"
        )
    with WorkdirLock(where, say=say) as lock, KeptExecutor() as kept:
        with clock.phase("prepare data"):
            found = prepared(experiments, console, None)
        with clock.phase("plan"):
            plan = plan_sweep(experiments, found=found, done=Done())
            print_plan(plan, console)  # what the whole would be, and its warnings
        study = _Study(plan, WorkStore(where, lock.lease), allowance(budget), goal(until))
        asked = {"budget": budget, "until": until}

        def train(part: Plan) -> Outcome:
            about = about_sweep(recipe, where, part, **asked)
            given = {"ray_address": None, "profile_steps": None, **how, "kept": kept}
            return run_sweep(part, lock, stores=found.stores, about=about, console=console, **given)

        outcome = _rounds(study, train, clock, asked, say)
        for line in outcome.failures:
            say(f"failed: {line}")
        if outcome.results:
            report_on([where], console)
    return outcome


def _rounds(
    study: "_Study",
    train: Callable[[Plan], Outcome],
    clock: Clock,
    asked: Mapping[str, str | None],
    say: Callable[[str], None],
) -> Outcome:
    """Train what the rule adds until it adds nothing; returns how the last training ended."""
    store, outcome = study.store, None
    failed = frozenset[str]()
    while True:
        decision = study.decide(failed)
        if outcome is not None:  # before, the directory may yet be refused
            write_fact(store.root / BUDGET, study.fact(decision, asked))
            if decision.ended is not None:
                return outcome
        say(study.words(decision))
        part = refresh(part_of(study.plan, decision.runs), known.done(store))
        with clock.phase("sweep"):
            outcome = train(part)
        remember_session(store.root, clock.seconds, workers=outcome.workers)
        clock.seconds.clear()
        failed = frozenset(decision.runs) - store.finished_runs()


def checked_grid(plan: Plan, allowed: Allowance, wanted: Goal) -> Grid:
    """The grid of a plan, if a budget and a goal suit it.

    Raises:
        UserError: they do not.
    """
    grid = grid_of_plan(plan, allowed.unit)
    has_reference = any(cell.is_reference for cell in grid.cells)
    if wanted.kind == "x" and not has_reference:
        raise UserError(
            "--until in x asks for target data efficiency, and no run of the sweep is a reference "
            "point (analysis.reference): ask for the gain, as 'interval < 0.08 nat'"
        )
    needed = least(grid)
    if allowed.unit != "seconds" and allowed.amount < needed:
        raise UserError(
            f"--budget is {allowed.words}, and the first runs with a second seed take "
            f"{said(needed, allowed.unit)}: give that at least (the whole sweep takes "
            f"{said(grid.cost(grid.paths), allowed.unit)})"
        )
    return grid


class _Study:
    """A budgeted study under way: what it may choose from, and what it is after."""

    def __init__(self, plan: Plan, store: WorkStore, allowed: Allowance, wanted: Goal) -> None:
        self.plan, self.store = plan, store
        self.grid = grid = checked_grid(plan, allowed, wanted)
        self._known: dict[str, Mapping[str, Any]] = {}
        self._unit = "FLOPs" if allowed.unit == "FLOPs" else "steps"
        self._limit = limit(allowed, lambda: workers_of(store.root))
        self._rules = Rules(
            self._limit,
            functools.partial(
                find,
                config=plan.runs[0].config.analysis,
                goal=wanted,
                questions=len(grid.questions),
            ),
            wanted.words,
        )

    def decide(self, failed: frozenset[str]) -> Decision:
        """What the rule says of the runs that are finished."""
        for id in sorted(self.store.finished_runs() & self.grid.paths.keys() - self._known.keys()):
            record = self.store.result(id)
            if record is not None:
                self._known[id] = record
        return decide(self.grid, self._known, failed=failed, rules=self._rules)

    def fact(self, decision: Decision, asked: Mapping[str, str | None]) -> dict[str, Any]:
        """The decision as it is written down."""
        amount = self._amount(decision)
        return fact(decision, self.grid, asked=asked, unit=self._unit, limit=amount)

    def words(self, decision: Decision) -> str:
        """The decision in one line."""
        if decision.ended is not None:
            return ended_words(decision, self.grid, self._unit)
        return look_words(decision, self._unit, self._amount(decision))

    def _amount(self, decision: Decision) -> float:
        return self._limit([self._known[id] for id in decision.runs if id in self._known])
