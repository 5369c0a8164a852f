"""A sweep within a budget: what is asked, what it costs, and that portions add up to a study."""

import json
import math
from pprint import pformat

import pytest
from in_process import in_this_process
from rich.console import Console
from tiny_sweep import make_study

import replay_jax
from replay_jax.analysis.budget.goal import Goal
from replay_jax.errors import UserError
from replay_jax.library import reporting, running
from replay_jax.library.budgeted import run as budgeted
from replay_jax.library.budgeted.asked import Allowance, allowance, goal
from replay_jax.library.budgeted.costs import limit
from replay_jax.library.gathering import gather
from replay_jax.sweep.drive import engine
from replay_jax.sweep.store.places import place
from replay_jax.sweep.store.workdir import WorkStore

RECIPE = '''"""Is replay worth it?"""
from ml_collections import ConfigDict
from replay_jax.config.grid import chain, grid

PLAIN = {plain}
B, E, RHO = "schedule.target_sequences", "schedule.target_epochs", "schedule.replay_fraction"


def get_config():
    return ConfigDict(PLAIN)


def sweep(seeds=2):
    runs = chain(
        grid({{B: [4, 8, 12]}}, {{RHO: [0.0]}}, {{E: [2.0]}}),
        grid({{B: [8]}}, {{RHO: [0.0]}}, {{E: [1.0, 3.0]}}),
        grid({{B: [8]}}, {{RHO: [0.5]}}, {{E: [1.0, 2.0]}}),
    )
    return grid({{"seed": list(range(seeds))}}, runs)
'''


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("2h", 7200, "seconds"), ("90m", 5400, "seconds"), ("1.5 h", 5400, "seconds"),
     ("3e15flops", 3e15, "FLOPs"), ("2000steps", 2000, "steps"), ("45s", 45, "seconds")],
)  # fmt: skip
def test_budgets_are_times_flops_and_steps(text, amount, unit):
    assert allowance(text) == Allowance(amount, unit)


@pytest.mark.parametrize("text", ["2", "0h", "-1h", "2 weeks", "", "1e999999h"])
def test_what_is_no_budget_is_said(text):
    with pytest.raises(UserError, match="no time .*, no FLOPs .* and no number of steps"):
        allowance(text)


def test_goals_are_widths():
    assert goal("interval < 1.3x") == goal("interval<1.3X") == Goal("x", 1.3)
    assert goal("interval < 0.08 nat") == goal("interval < .08 nats") == Goal("nat", 0.08)
    assert goal(None) == Goal("verdict")
    for text in (
        "interval < 1x",
        "interval < 1.3",
        "verdict",
        "interval > 1.3x",
        "interval < 0nat",
    ):
        with pytest.raises(UserError, match="write 'interval < 1.3x'"):
            goal(text)


def test_a_time_buys_steps_at_the_rate_of_the_records():
    """Two runs of 10 steps, of which they share 6: 14 steps, in 7 seconds on two workers."""
    spans = [{"step": 6, "runs": 2}, {"step": 10, "runs": 1}]
    records = [{"seconds": 3.5, "history": spans}] * 2
    steps = limit(Allowance(60, "seconds"), lambda: 2)
    assert steps(records) == pytest.approx(60 * 2 * 14 / 7)
    assert steps([]) == math.inf


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budgeted")
    plain = make_study(folder).config.to_dict()
    plain["analysis"] = {**plain["analysis"], "reference": {"replay_fraction": 0.0}}
    plain["execution"]["keep_states"] = False
    (folder / "study.py").write_text(RECIPE.format(plain=pformat(plain)))
    return folder / "study.py"


@pytest.fixture(scope="module")
def interrupted(recipe):
    """A study that was interrupted in its third look, and what it was when it had gone on."""
    workdir, rounds, steps, executors = recipe.parent / "work", [], [], []

    def interrupting(part, *arguments, **named):
        rounds.append([run.id for run in part.runs])
        if len(rounds) == 3:
            raise KeyboardInterrupt
        steps.append(part.steps_remaining)
        return run_sweep(part, *arguments, **named)

    def counted(*arguments, **named):
        executors.append(here(*arguments, **named))
        return executors[-1]

    run_sweep, console = (
        budgeted.run_sweep,
        Console(record=True, width=200, file=open("/dev/null", "w")),
    )
    with in_this_process(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "write_report", lambda *_, **__: None)
        patch.setattr(budgeted, "run_sweep", interrupting)
        here = engine.LocalWorkers
        patch.setattr(engine, "LocalWorkers", counted)
        loaded = replay_jax.load_recipe(recipe)
        with pytest.raises(KeyboardInterrupt):
            replay_jax.run_within(loaded, workdir, until="interval < 1.0001x", budget="52steps")
        outcome = replay_jax.run_within(
            loaded, workdir, until="interval < 1.0001x", budget="52steps", console=console
        )
    return workdir, rounds, outcome, console.export_text(), executors, steps


def test_it_goes_on_with_the_look_that_was_interrupted(interrupted):
    workdir, rounds, outcome, *_ = interrupted
    assert rounds[2] == rounds[3] and set(rounds[1]) < set(rounds[2])
    assert outcome.failures == ()
    written = json.loads((workdir / "budget.json").read_text())
    chosen = [run for look in written["looks"] for run in look["runs"]]
    assert sorted(chosen) == sorted(rounds[-1]) == sorted(WorkStore(place(workdir)).finished_runs())


def test_portions_train_nothing_twice(interrupted):
    """States stay where runs that are not chosen yet go on from."""
    workdir, *_, steps = interrupted
    written = json.loads((workdir / "budget.json").read_text())
    assert sum(steps) == written["looks"][-1]["spent"] <= 52


def test_portions_share_their_worker_processes(interrupted):
    """Which start, and compile, once for every time that the command is given."""
    _, rounds, *_, executors, steps = interrupted
    assert len(rounds) == 1 + len(steps) > 3 and len(executors) == 2


def test_the_study_is_of_the_runs_compared_and_says_so(interrupted):
    workdir, _, _, printed, *_ = interrupted
    written = json.loads((workdir / "budget.json").read_text())
    assert written["ended"] == "the budget is spent" and written["left_out"]
    records = gather([place(workdir)]).records
    assert {record["id"] for record in records} == set(written["compared"])
    assert written["words"] in printed and "look 3: " in printed


def test_a_whole_sweep_afterwards_compares_all(interrupted, recipe):
    workdir, *_ = interrupted
    with pytest.MonkeyPatch.context() as patch, in_this_process():
        patch.setattr(running, "_conclude", lambda *_: None)  # reported above
        replay_jax.run(replay_jax.load_recipe(recipe), workdir)
    assert not (workdir / "budget.json").exists()
    assert len(gather([place(workdir)]).records) == 14


@pytest.mark.parametrize(
    ("changes", "asked", "words"),
    [
        ({}, {"budget": "20steps"}, r"--budget is 20 steps, and the first runs .* take \d+ steps"),
        ({"seeds": 1}, {"budget": "2h"}, "the sweep has one seed"),
        ({"execution.executor": "hosts"}, {"budget": "2h"}, "several rounds"),
        ({"analysis.reference": {"seed": 9}}, {"until": "interval < 2x"}, "ask for the gain"),
    ],
)  # fmt: skip
def test_mistakes_are_said_before_anything_is_trained(recipe, changes, asked, words):
    workdir = recipe.parent / "refused"
    with pytest.raises(UserError, match=words):
        replay_jax.run_within(replay_jax.load_recipe(recipe, changes), workdir, **asked)
    assert not (workdir / "runs").exists() and not (workdir / "budget.json").exists()
