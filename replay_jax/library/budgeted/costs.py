"""A plan as a grid with costs, and what a budget allows of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from replay_jax.analysis.budget.planned import Grid, grid_of
from replay_jax.errors import UserError
from replay_jax.library.budgeted.asked import Allowance
from replay_jax.strict import to_plain
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.results.record import description

Record = Mapping[str, Any]


def grid_of_plan(plan: Plan, unit: str) -> Grid:
    """The cells of a plan; its runs cost steps or FLOPs (for a time, steps).

    Raises:
        UserError: nothing can be drawn from it in portions (`planned.grid_of`).
    """
    analyses = {run.config.analysis.level: run.config.analysis for run in plan.runs}
    if len(analyses) > 1:
        raise UserError("runs of the sweep ask for intervals of several levels: set one")
    spans = [(edge.stop.digest, _cost(plan, n, unit)) for n, edge in enumerate(plan.edges)]
    by_digest = dict(spans)
    paths = {
        run.id: tuple((edge.stop.digest, by_digest[edge.stop.digest]) for edge in path)
        for run, path in zip(plan.runs, plan.paths, strict=True)
    }
    return grid_of(_planned_records(plan), plan.runs[0].config.analysis, paths)


def _cost(plan: Plan, number: int, unit: str) -> float:
    edge = plan.edges[number]
    if unit != "FLOPs":
        return float(edge.steps)
    return plan.runs[edge.runs[0]].flops_between(edge.start.step, edge.stop.step)


def _planned_records(plan: Plan) -> list[Record]:
    """Records of runs that are not trained: all that tells runs apart, and losses of nothing."""
    return [
        {
            "id": run.id,
            "name": run.name,
            "overrides": dict(run.overrides),
            **description(run, run.ledger),
            "losses": {"target": 0.0, "generic": 0.0},
            "evaluation": "",
            "config": to_plain(run.config),
        }
        for run in plan.runs
    ]


def limit(allowed: Allowance, workers: Callable[[], int]) -> Callable[[Sequence[Record]], float]:
    """What may be spent in the grid's costs, given records of finished runs.

    Steps are bought for a time at the rate that the records show: their seconds of training,
    evaluation, compiling and saving for each step of their own, on so many workers side by side.
    """
    if allowed.unit != "seconds":
        return lambda records: allowed.amount

    def steps(records: Sequence[Record]) -> float:
        own = sum(_own_steps(record) for record in records)
        seconds = sum(record["seconds"] for record in records)
        return allowed.amount * max(1, workers()) * own / seconds if seconds else float("inf")

    return steps


def _own_steps(record: Record) -> float:
    """A run's share of the steps of its history: a shared span counts divided by its runs."""
    stops = [span["step"] for span in record["history"]]
    lengths = zip(record["history"], stops, [0, *stops], strict=False)
    return sum((stop - start) / span["runs"] for span, stop, start in lengths)
