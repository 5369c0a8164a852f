"""A run as a fact on disk: all that is needed to know it again without its config file."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from replay_jax.config.experiment import ExperimentConfig, resolve
from replay_jax.config.identity import result_identity
from replay_jax.data.reading.views import SourceView
from replay_jax.errors import UserError
from replay_jax.schedule.protocols import Schedule, build_schedule
from replay_jax.strict import to_plain
from replay_jax.sweep.plan.plan import Plan


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


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """What a run was planned from, and the digest of all that its result depends on."""

    config: ExperimentConfig
    schedule: Schedule
    views: Mapping[str, SourceView]
    weights: str | None
    tasks: Mapping[str, str]

    @property
    def identity(self) -> str:
        """The run's id, computed again."""
        fingerprints = {name: view.fingerprint for name, view in self.views.items()}
        return result_identity(self.config, fingerprints, weights=self.weights, tasks=self.tasks)


def restore_run(fact: Mapping[str, Any]) -> StoredRun:
    """A run from its stored fact.

    Raises:
        UserError: another version stored it.
    """
    try:
        config = resolve(fact["config"])
    except UserError as error:
        raise UserError(
            f"run '{fact['name']}' was stored by another version ({error}); the command that "
            "trained it stores it anew, without training"
        ) from error
    schedule = build_schedule(
        config.schedule,
        batch_size=config.training.batch_size,
        generic=config.data.generic,
        target=config.data.target,
    )
    views = {name: SourceView(**values) for name, values in fact["views"].items()}
    start = fact["pretrained"]
    return StoredRun(
        config=config,
        schedule=schedule,
        views=views,
        weights=None if start is None else start["fingerprint"],
        tasks={task["name"]: task["digest"] for task in fact["tasks"]},
    )
