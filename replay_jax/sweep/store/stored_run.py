"""A run as a fact on disk: all that is needed to know it again without its config file."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from replay_jax.analysis.runs.records import ADDED as NEW_SETTINGS
from replay_jax.config.experiment import resolve
from replay_jax.config.identity import result_identity
from replay_jax.data.judging.tasks import Task
from replay_jax.data.ledger.planned import plan_ledger
from replay_jax.data.reading.views import SourceView
from replay_jax.data.sources.source import ADDED as ADDED_TO_SOURCES
from replay_jax.errors import UserError
from replay_jax.hub.folder import Pretrained
from replay_jax.strict import to_plain
from replay_jax.sweep.plan.chain import Shared, run_chain, schedule_of
from replay_jax.sweep.plan.plan import Plan
from replay_jax.sweep.plan.run import Run
from replay_jax.sweep.store import facts, shapes
from replay_jax.sweep.store.sealing import checksum, sealed
from replay_jax.sweep.store.workdir import WorkStore

# Fields that are newer than format 4, as runs were carried out before. None enters a run's id.
ADDED: Mapping[str, Mapping[str, Any]] = {
    "execution": {"keep_ends": False},
    "analysis": NEW_SETTINGS,
    "optimizer": {"name": "adamw", "moments_dtype": "float32"},
    "model": {"variant": None, "lora": None, "frozen": []},
    "schedule": {"batch_sizes": []},
    "training": {
        "objective": "tokens",
        "generic_objective": "next_token",
        "average_last": 0.0,
        "dropout": 0.0,
    },
}


def run_fact(plan: Plan, number: int) -> dict[str, Any]:
    """What is stored about a run before it is trained; `path` lists the ends of its edges."""
    run = plan.runs[number]
    return {
        "id": run.id,
        "name": run.name,
        "overrides": dict(run.overrides),
        "steps": run.steps,
        "tokens": run.tokens,
        "flops": run.flops,
        "path": [dataclasses.asdict(edge.stop) for edge in plan.paths[number]],
        "config": to_plain(run.config),
        "pretrained": run.pretrained and dataclasses.asdict(run.pretrained),
        "tasks": [dataclasses.asdict(task) for task in run.tasks],
        "views": {name: dataclasses.asdict(view) for name, view in run.views.items()},
        "ledger": run.ledger.to_json(),
    }


def write_runs(
    store: WorkStore, runs: Iterable[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """Record the runs of the sweep that begins, and what it asks in words.

    Runs that the last sweep wrote down alike, and nobody wrote to since, are not written again,
    nor read.
    """
    store.confirm()
    last = facts.read_object(store.root / "sweep.json", shapes.SWEEP) or {}
    known, there = last.get("checksums"), set(facts.fact_names(store.root / "runs"))
    checksums = {}
    for run in runs:
        id, checksums[run["id"]] = run["id"], checksum(run)
        path = store.root / "runs" / f"{id}.json"
        is_known = id in there and isinstance(known, Mapping) and known.get(id) == checksums[id]
        if not is_known or _is_newer(path, store.root / "sweep.json"):
            facts.write_fact(path, run)
    fact = sealed({"runs": list(checksums), "checksums": checksums})
    facts.write_fact(store.root / "sweep.json", fact)
    facts.write_fact(store.root / "recipe.json", about)


def _is_newer(path: epath.Path, than: epath.Path) -> bool:
    """Whether a file here was written to after another; in a bucket nobody writes into a file."""
    return "://" not in str(path) and path.stat().mtime > than.stat().mtime


def restore_run(fact: Mapping[str, Any], shared: Shared) -> Run:
    """A run from its stored fact; its ledger and digests are computed anew, its id is the fact's.

    `shared` holds what the digests of several runs have in common.

    Raises:
        UserError: another version stored it.
    """
    try:
        config = resolve(with_added(fact["config"]))
        views = {name: SourceView(**values) for name, values in fact["views"].items()}
        pretrained = None if fact["pretrained"] is None else Pretrained(**fact["pretrained"])
        tasks = tuple(Task(**task) for task in fact["tasks"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"run '{fact['name']}' was stored by another version or damaged ({error}); the command "
            "that trained it stores it anew, without training"
        ) from error
    schedule = schedule_of(config, shared)
    weights = None if pretrained is None else pretrained.fingerprint
    return Run(
        id=fact["id"],
        name=fact["name"],
        overrides=fact["overrides"],
        config=config,
        schedule=schedule,
        views=views,
        pretrained=pretrained,
        tasks=tasks,
        ledger=plan_ledger(schedule, views),
        chain=run_chain(config, schedule, views, weights=weights, shared=shared),
    )


def with_added(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration with the fields that it was stored without."""
    sources = {
        name: {**ADDED_TO_SOURCES, **source} for name, source in plain["data"]["sources"].items()
    }
    tokenizer = {"chat_template": "", **plain["data"]["tokenizer"]}
    parts = {part: {**ADDED[part], **plain[part]} for part in ADDED}
    data = {"held_out_generic": "", **plain["data"], "sources": sources, "tokenizer": tokenizer}
    return {"other_tokenizer": "", **plain, **parts, "data": data}


def identity(run: Run) -> str:
    """A run's id, computed again from all that it depends on."""
    fingerprints = {name: view.fingerprint for name, view in run.views.items()}
    weights = None if run.pretrained is None else run.pretrained.fingerprint
    tasks = {task.name: task.digest for task in run.tasks}
    return result_identity(run.config, fingerprints, weights=weights, tasks=tasks)
