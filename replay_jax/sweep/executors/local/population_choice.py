"""How many edges are trained side by side as one program: measured once, then kept.

The measurement needs the accelerator, which the coordinator never takes, so it is made in a
process of its own (`python -m replay_jax.sweep.executors.local.population_choice`), with the
question on its standard input and the answer on its standard output.
"""

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath

from replay_jax.errors import UserError
from replay_jax.model.architecture import parameter_counts
from replay_jax.sweep.executors.local.workers import jax_settings
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.plan.scheduler import Scheduler
from replay_jax.sweep.plan.work import Task
from replay_jax.sweep.train.job import step_shape
from replay_jax.training.config import MeshConfig, StepShape

_MODULE = "replay_jax.sweep.executors.local.population_choice"
# Numbers of lanes that are tried where the plan has as many edges side by side.
CANDIDATES = (4, 8, 16)
# A population must save this much of the whole sweep's time, as the measurement is short (chosen).
MARGIN = 0.9
_ROUNDS, _STEPS = 5, 4


@dataclasses.dataclass(frozen=True)
class Question:
    """What to time: the step of a shape alone on its mesh, and in populations."""

    shape: StepShape
    mesh: MeshConfig
    lanes: tuple[int, ...]


# Seconds of one step by number of lanes, 1 for the step alone; those that failed are left out.
Answer = Mapping[int, float]
Measure = Callable[[Question], Answer]


def choose_population(
    plan: Plan, *, known: Mapping[str, Any], on_accelerator: bool, measure: Measure
) -> tuple[int, str]:
    """The number of lanes (1: none) and why.

    Args:
        plan: what is to be trained.
        known: what the working directory's results have in common (`WorkStore.common`).
        on_accelerator: whether workers train on one.
        measure: how the question is answered where it comes to that.

    Raises:
        UserError: lanes are asked for and the mesh splits a model or its batch.
    """
    execution = plan.runs[0].config.execution
    split = next((run.config.mesh for run in plan.runs if _splits(run.config.mesh)), None)
    if execution.population > 1 and split is not None:
        raise UserError(
            f"execution.population is {execution.population}, but {split} splits a single model: "
            "use mesh.replica = 0, fsdp = 0, tensor = 1, or execution.population = 1"
        )
    if execution.population:
        return execution.population, "as the configuration says"
    if execution.executor != "local":
        return 1, f"executor '{execution.executor}' trains every edge alone"
    if "population" in known:
        return int(known["population"]), "as this working directory began"
    if not on_accelerator:
        return 1, "worker processes use the cores of a CPU better"
    if split is not None:
        return 1, "the mesh splits a single model"
    owner = max(plan.runs, key=_parameters)
    shape = step_shape(owner)
    tasks = [task for task in plan.tasks if step_shape(plan.runs[task.runs[0]]) == shape]
    candidates = tuple(lanes for lanes in CANDIDATES if lanes <= _leaves(tasks))
    if not candidates:
        return 1, f"fewer than {CANDIDATES[0]} edges can be trained side by side"
    return fastest(tasks, measure(Question(shape, owner.config.mesh, candidates)))


def fastest(tasks: Sequence[Task], seconds: Answer) -> tuple[int, str]:
    """The number of lanes with which the tasks take the least time, and why.

    Another number than 1 must save 1 - MARGIN of the time.
    """
    if 1 not in seconds:
        return 1, "no population could be timed"
    times = {lanes: side_by_side_steps(tasks, lanes) * each for lanes, each in seconds.items()}
    best = min(times, key=lambda lanes: times[lanes])
    ratio = times[1] / times[best] if times[best] else 1.0
    if best == 1 or times[best] > MARGIN * times[1]:
        return 1, f"no population was measured to save {1 - MARGIN:.0%} of the time"
    return best, f"measured to be {ratio:.2f} times as fast as one edge after another"


def side_by_side_steps(tasks: Sequence[Task], lanes: int) -> int:
    """Updates that one process makes for all tasks with so many lanes, in the scheduler's order."""
    scheduler = Scheduler(tasks, workers=lanes)
    left: dict[int, int] = {}
    steps = 0
    while not scheduler.is_over():
        while len(left) < lanes and (task := scheduler.take()) is not None:
            left[task.edge] = task.steps
        passed = min(left.values())
        steps += passed
        left = {edge: rest - passed for edge, rest in left.items()}
        for edge in [edge for edge, rest in left.items() if not rest]:
            scheduler.finish(edge)
            del left[edge]
    return steps


def measure_apart(root: epath.PathLike) -> Measure:
    """Answer a question in a process of its own, which shares compiled programs with the workers.

    An answer that does not come is empty; the process's own words go to this one's errors.
    """

    def ask(question: Question) -> Answer:
        asked = subprocess.run(
            [sys.executable, "-m", _MODULE],
            input=pickle.dumps(question),
            stdout=subprocess.PIPE,
            env={**jax_settings(root, 0), **os.environ},
            check=False,
        )
        lines = asked.stdout.decode().split("\n")
        found = json.loads(lines[-2]) if asked.returncode == 0 and len(lines) > 1 else {}
        return {int(lanes): seconds for lanes, seconds in found.items()}

    return ask


def measure_here(question: Question) -> Answer:
    """Time one model and populations in turn on this process's devices, medians of rounds."""
    import statistics

    import jax

    from replay_jax.compile.population_bench import time_population, time_solo
    from replay_jax.sweep.train.programs import ProgramCache

    mesh = ProgramCache().mesh(question.mesh, question.shape.model)
    solo = time_solo(question.shape, mesh)
    solo.seconds(1)
    alone: list[float] = []
    found: dict[int, float] = {}
    for lanes in question.lanes:
        # What does not divide over the devices or does not fit into their memory is not chosen.
        try:
            population = time_population(question.shape, lanes, jax.devices())
            population.seconds(1)
            together = []
            for _ in range(_ROUNDS):
                alone.append(solo.seconds(_STEPS))
                together.append(population.seconds(_STEPS))
            found[lanes] = statistics.median(together)
        except (UserError, RuntimeError) as error:
            print(f"population {lanes}: {str(error).splitlines()[0]}", file=sys.stderr)
    return {1: statistics.median(alone), **found} if alone else {}


def _splits(mesh: MeshConfig) -> bool:
    return max(mesh.replica, mesh.fsdp, mesh.tensor) > 1


def _parameters(run: Run) -> int:
    return parameter_counts(run.config.model).total


def _leaves(tasks: Sequence[Task]) -> int:
    """Most tasks that can be under way at once: those from which no other goes on."""
    children = Counter(task.parent for task in tasks)
    return sum(children[task.edge] == 0 for task in tasks)


if __name__ == "__main__":
    print(json.dumps(measure_here(pickle.loads(sys.stdin.buffer.read()))))
