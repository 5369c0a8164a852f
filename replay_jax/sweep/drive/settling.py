"""From the facts about a run whose training is over to its stored result."""

from collections.abc import Sequence

from replay_jax.sweep.plan.measured import evaluation_steps
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.results.record import LedgerMismatch, build_result, final_keys, is_ready
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.workdir import WorkStore


def settle(plan: Plan, number: int, store: WorkStore) -> str | None:
    """Write the result of a run whose facts are complete; returns why that is impossible."""
    run = plan.runs[number]
    if store.result(run.id) is not None:
        return None
    if not is_ready(store, run):
        return "its last step was not evaluated"
    history = store.history(run.node(run.steps))
    assert history is not None
    sharing, steps = _sharing(plan, number, history), evaluation_steps(run)
    try:
        store.write_result(run.id, build_result(run, store=store, sharing=sharing, steps=steps))
    except LedgerMismatch as error:
        return str(error)
    return None


def settle_all(plan: Plan, store: WorkStore) -> None:
    """Write the results of all runs whose facts are complete; what is there is listed once."""
    finished, measured = store.finished_runs(), store.evaluation_names()
    for number, run in enumerate(plan.runs):
        if run.id not in finished and measured.issuperset(final_keys(run)):
            settle(plan, number, store)


def _sharing(plan: Plan, number: int, history: Sequence[Segment]) -> list[int]:
    """By how many runs of a plan each span of a run's history is shared."""
    path = plan.paths[number]
    stops = (segment.stop.step for segment in history)
    return [len(next(edge for edge in path if stop <= edge.stop.step).runs) for stop in stops]
