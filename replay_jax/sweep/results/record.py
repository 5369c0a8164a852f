"""From facts about states to the record of a run."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from replay_jax.data.ledger.compared import compare, realised_ledger
from replay_jax.data.ledger.counted import Span
from replay_jax.data.ledger.planned import Ledger
from replay_jax.errors import UserError
from replay_jax.model.architecture import parameter_counts
from replay_jax.strict import to_plain
from replay_jax.sweep.plan.measured import (
    TaskSet,
    run_sets,
    run_tasks,
)
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.results.losses import facts_at, final_losses
from replay_jax.sweep.results.stopping import early_stopping
from replay_jax.sweep.results.way import around_boundary, loss_curve
from replay_jax.sweep.store.environment import Environment
from replay_jax.sweep.store.sealing import checksum
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.metrics import TIME_KINDS

Record = dict[str, Any]


class LedgerMismatch(Exception):
    """What a run consumed is not what was planned, so its losses are not those of the run."""


def is_ready(store: WorkStore, run: Run) -> bool:
    """Whether all that a run's result needs is known: final held-out losses, and its history.

    A run whose training has ended without an evaluation at its last step is not ready.
    """
    measured = all(store.evaluation(key) is not None for key in final_keys(run))
    return measured and store.history(run.node(run.steps)) is not None


def final_keys(run: Run) -> list[str]:
    """Names of the evaluations at a run's end that its result needs."""
    end = run.node(run.steps).digest
    sets = [held_out.key(end) for held_out in run_sets(run)]
    return sets + [task.key(end) for task in run_tasks(run)]


def build_result(
    run: Run, *, store: WorkStore, sharing: Sequence[int], steps: Collection[int]
) -> Record:
    """The record of a run that is ready; what it holds is listed in docs/sweeps.md.

    Args:
        run: the run.
        store: all facts about it.
        sharing: by how many runs each span of its history was shared when it was trained.
        steps: at which measurements on the way are looked for.

    Raises:
        LedgerMismatch: the rows consumed are not those planned.
        UserError: what it was trained in is gone.
    """
    final = run.node(run.steps)
    history = store.history(final)
    assert history is not None
    ledger = _counted_ledger(run, history)
    seconds = _own_seconds(history, sharing)
    last = _trained_in(history[-1], run, store)
    found = {step: facts_at(run, step, store) for step in sorted(steps)}
    measured = {step: facts for step, facts in found.items() if facts is not None}
    return {
        "id": run.id,
        "name": run.name,
        "overrides": dict(run.overrides),
        **description(run, ledger),
        **final_losses(run, store),
        "tasks": {
            wanted.task.name: _task_scores(run, wanted, store, steps) for wanted in run_tasks(run)
        },
        "curve": loss_curve(run, history, measured),
        **early_stopping(run, measured, store),
        "boundary": around_boundary(run, store, steps),
        "ledger": ledger.to_json(),
        "seconds": sum(seconds.values()),
        "time": seconds,
        "history": _history(history, sharing),
        "environments": _environments(run, history, store),
        "versions": last["software"],
        "machine": {**last["machine"], **_shared_by_all(run, store)},
        "config": to_plain(run.config),
    }


def _trained_in(span: Segment, run: Run, store: WorkStore) -> Environment:
    known = store.environments()
    if span.environment not in known:
        raise UserError(
            f"{store.root / 'environments' / span.environment}.json is gone, which tells what "
            f"trained run '{run.name}': put it back, or delete "
            f"{store.root / 'segments' / span.stop.digest}.json to train its end again"
        )
    return known[span.environment]


def counted_spans(history: Sequence[Segment]) -> list[Span]:
    """What the spans of a run's history consumed, on every host."""
    return [Span.from_json(span) for segment in history for span in segment.realised]


def _counted_ledger(run: Run, history: Sequence[Segment]) -> Ledger:
    counted = realised_ledger(counted_spans(history), run.schedule, run.views)
    differences = compare(run.ledger, counted)
    if differences:
        raise LedgerMismatch(f"run '{run.name}' did not consume what was planned: {differences[0]}")
    return counted


def description(run: Run, ledger: Ledger) -> Record:
    """What a run is, with what a ledger counted of it: the part of a record without results."""
    config, schedule = run.config, run.schedule
    requested, realised = schedule.requested, schedule.realised()
    budget = run.views[schedule.target].rows
    assert budget is not None
    # Spans of an earlier sweep were not counted apart at this run's stages, but their sum agrees.
    counted = ledger.realised or realised
    # Not asked for in freely written stages, which may draw no target at all.
    epochs = requested.target_epochs
    seen = schedule.sequences(schedule.target) / budget
    counts = parameter_counts(config.model)
    return {
        "seed": config.seed,
        "initial_weights": run.pretrained
        and {"name": run.pretrained.name, "fingerprint": run.pretrained.fingerprint},
        "protocol": requested.protocol,
        "replay_fraction": {
            "requested": requested.replay_fraction,
            "realised": counted.replay_fraction,
        },
        "allocation": {
            "requested": requested.stage2_allocation,
            "realised": counted.stage2_allocation,
        },
        "target_tokens": budget * config.training.seq_len,
        **_counted_budget(run),
        "target_epochs": seen if epochs is None else epochs,
        "total_steps": run.steps,
        "flops": run.flops,
        "learning_rate": config.schedule.learning_rate.peak,
        "weight_decay": config.optimizer.weight_decay,
        "target": schedule.target,
        "generic": schedule.generic,
        "model": {
            "name": f"{config.model.num_layers} layers × {config.model.embed_dim}",
            "body": counts.body,
            "embedding": counts.embedding,
            "head": counts.head,
            "total": counts.total,
        },
    }


def _counted_budget(run: Run) -> Record:
    """How many labels of the target's budget count in the loss; nothing where all do."""
    counted = run.views[run.schedule.target].budget_labels
    return {} if counted is None else {"target_counted_tokens": counted}


def _history(history: Sequence[Segment], sharing: Sequence[int]) -> list[Record]:
    """The spans that led to a run's end: where each stopped, in what, and for how many runs."""
    return [
        {
            "state": segment.stop.digest,
            "step": segment.stop.step,
            "environment": segment.environment,
            "runs": runs,
            "checksum": checksum(dataclasses.asdict(segment)),
        }
        for segment, runs in zip(history, sharing, strict=True)
    ]


def _environments(run: Run, history: Sequence[Segment], store: WorkStore) -> list[str]:
    """Digests of what a run's way was trained in, and its end measured in, in order, each once."""
    found = [segment.environment for segment in history]
    for key in final_keys(run):
        fact = store.evaluation(key)
        assert fact is not None
        found.append(fact["environment"])
    return list(dict.fromkeys(found))


def _shared_by_all(run: Run, store: WorkStore) -> Record:
    """What all results of the working directory have in common with this one."""
    data = {f"data of '{name}'" for name in run.views}
    common = store.common()
    return {name: value for name, value in common.items() if name in data | {"population"}}


def _task_scores(run: Run, wanted: TaskSet, store: WorkStore, steps: Collection[int]) -> Record:
    """What a run makes of a task at its end, and on the way where that was measured."""
    curve = []
    for step in sorted(steps):
        fact = store.evaluation(wanted.key(run.node(step).digest))
        if fact is not None:
            curve.append({"step": step, **_task_summary(fact)})
    final = store.evaluation(wanted.key(run.node(run.steps).digest))
    assert final is not None
    return {
        "digest": wanted.task.digest,
        "items": len(final["correct"]),
        **_task_summary(final),
        "correct": final["correct"],
        "correct_by_length": final["correct_by_length"],
        "curve": curve,
    }


def _task_summary(fact: Mapping[str, Any]) -> dict[str, float]:
    """Accuracies, and the mean loss among an item's choices in nats."""
    items = len(fact["correct"])
    return {
        "accuracy": fact["correct"].count("1") / items,
        "accuracy_by_length": fact["correct_by_length"].count("1") / items,
        "choice_loss": fact["choice_nats"] / items,
    }


def _own_seconds(history: Sequence[Segment], sharing: Sequence[int]) -> dict[str, float]:
    """A run's share of the time of its history: a shared span counts divided by its runs."""
    seconds = dict.fromkeys(TIME_KINDS, 0.0)
    for segment, runs in zip(history, sharing, strict=True):
        for kind in seconds:
            seconds[kind] += segment.seconds[kind] / runs
    return seconds
