"""A record as TensorBoard and W&B take it: its curve by step, its settings, its final losses."""

import importlib
import importlib.util
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath

from replay_jax.analysis.sources.logged import OWN_RECORD
from replay_jax.errors import UserError
from replay_jax.sweep.train.events_file import EventsFile, folder_name

Record = Mapping[str, Any]
# Nothing of the coordinator's terminal, processor or command is part of a run; nobody is asked for
# a key while a sweep is under way.
_SETTINGS = {
    "console": "off",
    "silent": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "init_timeout": 30.0,
    "login_timeout": 5.0,
}


def history(record: Record) -> dict[int, dict[str, float]]:
    """What is known of a run by step, shared prefixes included: losses in nats, shares correct."""
    points: dict[int, dict[str, float]] = {}
    for point in record["curve"]:
        here = points.setdefault(point["step"], {})
        for name, value in point.items():
            part, _, role = name.rpartition("_")
            if name != "step" and value is not None:
                here[f"train_loss/{role}" if part == "train" else f"loss/{name}"] = value
    for task, scores in record["tasks"].items():
        for point in scores["curve"]:
            points.setdefault(point["step"], {})[f"accuracy/{task}"] = point["accuracy"]
    return dict(sorted(points.items()))


def write_tensorboard(record: Record, root: epath.Path) -> None:
    """Write a run's events into a folder with its name and id, in place of what is there."""
    folder = root / folder_name(record["name"], record["id"])
    # By way of this machine's disk, as a bucket takes whole files only.
    with tempfile.TemporaryDirectory() as here:
        with EventsFile(Path(here)) as events:
            for step, values in history(record).items():
                for key, value in values.items():
                    events.add(key, value, step)
            events.add_text(OWN_RECORD, json.dumps(record, allow_nan=False))
        for old in folder.iterdir() if folder.exists() else ():
            old.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        for file in Path(here).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())


def check_wandb(project: str) -> None:
    """Raise UserError if W&B is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            f"logging.wandb_project is {project!r}, but wandb is not installed; run "
            "pip install 'replay-jax[wandb]' or set it to ''."
        )


def send_to_wandb(record: Record, root: epath.Path, project: str) -> None:
    """Make a run of W&B, or go on with the one that has the same id, and end it.

    Its group is the working directory's name. W&B passes over steps that it has already.
    """
    wandb = importlib.import_module("wandb")
    # Where W&B itself keeps what it has not sent yet; a bucket cannot hold that.
    is_here = "://" not in os.fspath(root) and "WANDB_DIR" not in os.environ
    run = wandb.init(
        project=project,
        id=record["id"],
        name=record["name"],
        group=root.name,
        config={**record["config"], "overrides": nested(record["overrides"])},
        allow_val_change=True,
        resume="allow",
        reinit="create_new",
        dir=os.fspath(root) if is_here else None,
        settings=_SETTINGS,
    )
    for step, values in history(record).items():
        run.log(values, step=step)
    # Whole, so that `replay-jax analyse --wandb` says what `recommend` does.
    run.summary.update({**summary(record), OWN_RECORD: json.dumps(record, allow_nan=False)})
    run.finish()


def summary(record: Record) -> dict[str, Any]:
    """What a run ended with."""
    kept = ("losses", "bits_per_byte", "replay_fraction", "allocation", "target_tokens")
    scores = {name: scores["accuracy"] for name, scores in record["tasks"].items()}
    more = ("target_epochs", "total_steps", "seconds")
    return {**{name: record[name] for name in (*kept, *more)}, "accuracy": scores}


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested ones, since W&B takes a dot in a key for nesting."""
    found: dict[str, Any] = {}
    for key, value in overrides.items():
        here, (*folders, name) = found, key.split(".")
        for folder in folders:
            inner = here[folder] if folder in here else {}
            here[folder] = dict(inner) if isinstance(inner, dict) else {}
            here = here[folder]
        here[name] = value
    return found
