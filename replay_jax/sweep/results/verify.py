"""Recompute ledgers and records from what is stored, and compare with what was counted and said."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from replay_jax.data.ledger.compared import check_spans, compare, realised_ledger
from replay_jax.data.ledger.planned import Ledger
from replay_jax.errors import UserError
from replay_jax.progress import step_by_step
from replay_jax.sweep.plan.chain import Shared
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.plan.tree import Node
from replay_jax.sweep.results.record import LedgerMismatch, build_result, counted_spans, is_ready
from replay_jax.sweep.store.environment import environment_digest
from replay_jax.sweep.store.facts import changed_facts
from replay_jax.sweep.store.sealing import checksum
from replay_jax.sweep.store.stored_run import identity, restore_run, with_added
from replay_jax.sweep.store.workdir import WorkStore

# How many places at which two records differ are named.
_MOST_NAMED = 5
# What records of before lack.
_ADDED = ("flops", "early_stopping")
_OF_SPANS = ("seconds", "time", "history", "environments", "versions", "machine", "curve")


def verify(workdir: epath.PathLike) -> tuple[list[str], int]:
    """Check every finished run of a working directory's last sweep.

    From the stored configuration alone, the schedule, the ledger, the run's identity and every
    single row of every step are computed again, and compared with the stored plan and with what
    training counted from its batches. From the spans and evaluations, whose checksums must hold,
    every record is built again and compared as a whole, also with its line of results.jsonl.

    Args:
        workdir: of the sweep.

    Returns:
        all differences in words, and the number of runs checked.

    Raises:
        UserError: another version wrote the directory.
    """
    store = WorkStore(workdir, changed=True)
    store.common()
    found = [f"{name} was changed after it was written" for name in changed_facts(store.root)]
    for digest, environment in store.environments().items():
        if environment_digest(environment) != digest:
            found.append(f"environments/{digest}.json was changed after it was written")
    records: dict[str, Mapping[str, Any]] = {}
    shared = Shared()
    for fact in step_by_step(store.runs(), "checking runs"):
        record = store.result(fact["id"])
        if record is not None:
            records[fact["id"]] = record
            here = _checked_run(fact, record, store, shared)
            found += [f"{fact['name']} ({fact['id']}): {line}" for line in here]
    return found + _compare_published(store, records), len(records)


def mixed_environments(workdir: epath.PathLike) -> list[str]:
    """A line for every finished run of the last sweep whose way led through several environments.

    No difference: the way there was accepted, and every record names it.
    """
    store = WorkStore(workdir)
    lines = []
    for fact in store.runs():
        record = store.result(fact["id"])
        if record is not None and len(record["environments"]) > 1:
            names = ", ".join(digest[:8] for digest in record["environments"])
            lines.append(f"{fact['name']} ({fact['id']}) came out of several environments: {names}")
    return lines


def _checked_run(
    fact: Mapping[str, Any], record: Mapping[str, Any], store: WorkStore, shared: Shared
) -> list[str]:
    """`_verify_run`, where facts that were changed until they mean nothing are a difference."""
    try:
        return _verify_run(fact, record, store, shared)
    except UserError:
        raise
    except Exception as error:  # whatever may stand there: what was written can be read
        return [f"what is stored of it cannot be understood: {type(error).__name__}: {error}"]


def _verify_run(
    fact: Mapping[str, Any], record: Mapping[str, Any], store: WorkStore, shared: Shared
) -> list[str]:
    run = restore_run(fact, shared)
    found = [
        f"stored plan: {line}" for line in compare(run.ledger, Ledger.from_json(fact["ledger"]))
    ]
    if identity(run) != fact["id"]:
        found.append(f"its configuration has the identity {identity(run)}")
    final, stored = run.node(run.steps), fact["path"][-1]["digest"]
    if final.digest != stored:
        return [*found, f"its configuration leads to the state {final.digest}, not {stored}"]
    history = store.history(Node(final.digest, run.steps))
    if history is None:
        return [*found, _missing_span(store, Node(final.digest, run.steps), fact["id"])]
    spans = counted_spans(history)
    counted = realised_ledger(spans, run.schedule, run.views)
    found += compare(run.ledger, counted)
    found += check_spans(spans, run.schedule, run.views)
    claimed = Ledger.from_json(record["ledger"])
    found += [f"stored result: {line}" for line in compare(counted, claimed)]
    return found + _compare_record(fact, record, store, shared)


def _missing_span(store: WorkStore, node: Node, run: str) -> str:
    """Which record of the way to a run's end is missing, and what brings it back."""
    while node.step and (segment := store.segment(node.digest)):
        node = segment.start
    return (
        f"segments/{node.digest}.json, a record of what it consumed, is missing: delete "
        f"{store.root / 'results' / run}.json, and `run` trains it again"
    )


def _compare_record(
    fact: Mapping[str, Any], record: Mapping[str, Any], store: WorkStore, shared: Shared
) -> list[str]:
    """Build the record again, of the configuration that it names itself, and compare all of it.

    A later sweep may carry a run out in another way (how often it is evaluated, on which mesh),
    and may have measured more on its way; what decides the result is in the run's id. Spans that
    were trained again since, because the state at their end was gone, took another time.
    """
    told = {name: record[name] for name in ("config", "name", "overrides")}
    run: Run = restore_run({**fact, **told}, shared)
    if identity(run) != record["id"]:
        return [f"stored result: its configuration has the identity {identity(run)}"]
    if not is_ready(store, run):
        return ["an evaluation that its result rests on is missing"]
    sharing = [span["runs"] for span in record["history"]]
    history = store.history(run.node(run.steps))
    assert history is not None
    here = [checksum(dataclasses.asdict(segment)) for segment in history]
    is_rewritten = here != [span["checksum"] for span in record["history"]]
    if is_rewritten:
        sharing = [1] * len(history)
    curves = [record["curve"], *(scores["curve"] for scores in record["tasks"].values())]
    steps = {point["step"] for curve in curves for point in curve}
    try:
        again = build_result(run, store=store, sharing=sharing, steps=steps)
    except (LedgerMismatch, ValueError) as error:
        return [f"stored result: {error}"]
    again = {name: again[name] for name in again if name in record or name not in _ADDED}
    claimed = {**record, "config": with_added(record["config"])}
    # JSON knows no tuples.
    again = json.loads(json.dumps(again))
    if is_rewritten:
        again, claimed = _less_spans(again), _less_spans(claimed)
    return _record_differences(again, claimed)


def _less_spans(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record less what depends on who trained its spans, and when."""
    curve = [
        {name: value for name, value in point.items() if not name.startswith("train_")}
        for point in record["curve"]
    ]
    return {**{k: v for k, v in record.items() if k not in _OF_SPANS}, "curve": curve}


def _record_differences(again: Any, claimed: Any, where: str = "") -> list[str]:
    """Where two nested values differ, as "stored result: losses.target is 3.1, not 3.2"."""
    if isinstance(again, Mapping) and isinstance(claimed, Mapping):
        found = []
        for name in dict.fromkeys((*again, *claimed)):
            here = f"{where}.{name}" if where else name
            if name not in again or name not in claimed:
                found.append(f"stored result: {here} is only in one of the two")
            else:
                found += _record_differences(again[name], claimed[name], here)
        return found[:_MOST_NAMED]
    if again == claimed:
        return []
    return [f"stored result: {where} is {_short(claimed)}, not {_short(again)}"]


def _compare_published(store: WorkStore, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every line of results.jsonl must be the stored result of its run."""
    path = store.root / "results.jsonl"
    # Bytes that are no text make a line that is damaged.
    content = path.read_bytes() if path.exists() else b""
    lines = content.decode(errors="replace").splitlines()
    found, seen = [], set()
    for number, line in enumerate(lines, 1):
        try:
            published = json.loads(line)
        except (ValueError, RecursionError):
            published = None
        if not isinstance(published, dict) or not isinstance(published.get("id"), str):
            found.append(f"results.jsonl: line {number} is damaged")
            continue
        seen.add(published["id"])
        if published["id"] not in records or published != records[published["id"]]:
            found.append(f"results.jsonl: line {number} is not the result of run {published['id']}")
    return found + [f"results.jsonl lacks run {id}" for id in records if id not in seen]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
