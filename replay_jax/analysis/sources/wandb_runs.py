"""The runs of a W&B project, through its public API: settings, last values, how each ended."""

import importlib
import importlib.util
from typing import Any

from replay_jax.analysis.sources.logged import OWN_RECORD, Logged, flat, own_record
from replay_jax.errors import UserError


def read_wandb(project: str) -> tuple[tuple[Logged, ...], tuple[str, ...]]:
    """The finished runs of ENTITY/PROJECT, and what was left out, in words.

    Raises:
        UserError: W&B is not installed or does not answer, the name is none, or no run of the
            project has finished.
    """
    if project.count("/") != 1 or not all(project.split("/")):
        raise UserError(f"--wandb={project} is not of the form ENTITY/PROJECT")
    if importlib.util.find_spec("wandb") is None:
        raise UserError("wandb is not installed; run pip install 'replay-jax[wandb]'")
    wandb = importlib.import_module("wandb")
    try:
        # Not lazy: each run's settings would be a request of their own.
        runs = list(wandb.Api().runs(project, lazy=False))
        finished = [run for run in runs if run.state == "finished"]
        logged = tuple(map(_logged, finished))
    except Exception as error:  # its client raises what its transport does
        words = str(error).strip().split("\n")[0]
        raise UserError(f"W&B does not give {project}: {words or type(error).__name__}") from error
    if not logged:
        raise UserError(f"no run of {project} has finished: W&B lists {len(runs)}")
    gone = ", ".join(f"{run.name} ({run.state})" for run in runs if run.state != "finished")
    return logged, (f"left out, because W&B does not call them finished: {gone}",) if gone else ()


def _logged(run: Any) -> Logged:
    values = dict(run.summary_metrics)
    record = own_record(values.pop(OWN_RECORD, None))
    return Logged(str(run.name), dict(flat(run.config)), dict(flat(values)), record)
