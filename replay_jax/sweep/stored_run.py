"""A run as a fact on disk: all that is needed to know it again without its config file."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from replay_jax.config import ExperimentConfig, resolve
from replay_jax.data.schedule import Schedule, build_schedule
from replay_jax.data.views import SourceView
from replay_jax.errors import UserError
from replay_jax.strict import to_plain
from replay_jax.sweep.plan import Plan
from replay_jax.training.pretrained import Pretrained


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
        "path": [dataclasses.asdict(edge.stop) for edge in plan.edges if number in edge.runs],
        "config": to_plain(run.config),
        "pretrained": run.pretrained and dataclasses.asdict(run.pretrained),
        "views": {name: dataclasses.asdict(view) for name, view in run.views.items()},
        "ledger": run.ledger.to_json(),
    }


def restore_run(
    fact: Mapping[str, Any],
) -> tuple[ExperimentConfig, Schedule, dict[str, SourceView], Pretrained | None]:
    """The configuration, schedule, views and start of a stored run.

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
    start = fact["pretrained"] and Pretrained(**fact["pretrained"])
    return config, schedule, views, start
