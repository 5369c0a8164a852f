"""Recompute ledgers from the stored configurations, and compare with what was counted."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from replay_jax.data.ledger.compared import check_spans, realised_ledger
from replay_jax.data.ledger.planned import Ledger, compare, plan_ledger
from replay_jax.sweep.plan.run import Shared, run_chain
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.store.results import counted_spans
from replay_jax.sweep.store.stored_run import restore_run
from replay_jax.sweep.store.workdir import WorkStore


def verify(workdir: epath.PathLike) -> tuple[list[str], int]:
    """Check every finished run of a working directory's last sweep.

    From the stored configuration alone, the schedule, the ledger, the run's identity and every
    single row of every step are computed again, and compared with the stored plan and with what
    training counted from its batches.

    Returns:
        all differences in words, and the number of runs checked.

    Raises:
        UserError: another version wrote the directory.
    """
    store = WorkStore(workdir)
    store.common()
    differences: list[str] = []
    checked, shared = 0, Shared()
    for fact in store.runs():
        if store.result(fact["id"]) is not None:
            found = _verify_run(fact, store, shared)
            differences += [f"{fact['name']} ({fact['id']}): {line}" for line in found]
            checked += 1
    return differences, checked


def _verify_run(fact: Mapping[str, Any], store: WorkStore, shared: Shared) -> list[str]:
    run = restore_run(fact)
    schedule, views = run.schedule, run.views
    planned = plan_ledger(schedule, views)
    chain = run_chain(run.config, schedule, views, weights=run.weights, shared=shared)
    final = chain[-1].tobytes().hex()
    found = [f"stored plan: {line}" for line in compare(planned, Ledger.from_json(fact["ledger"]))]
    if run.identity != fact["id"]:
        found.append(f"its configuration has the identity {run.identity}")
    stored = fact["path"][-1]["digest"]
    if final != stored:
        return [*found, f"its configuration leads to the state {final}, not {stored}"]
    history = store.history(Node(final, schedule.total_steps))
    if history is None:
        return [*found, "a record of what it consumed is missing"]
    spans = counted_spans(history)
    counted = realised_ledger(spans, schedule, views)
    found += compare(planned, counted)
    found += check_spans(spans, schedule, views)
    result = store.result(fact["id"])
    assert result is not None
    claimed = Ledger.from_json(result["ledger"])
    return found + [f"stored result: {line}" for line in compare(counted, claimed)]
