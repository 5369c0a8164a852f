"""Records of an edge under way on disk: JSON lines and TensorBoard, each step once."""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from replay_jax.training.config import LoggingConfig

Record = Mapping[str, float | int | None]


class MetricsWriter:
    """Appends records to a JSON-lines file and TensorBoard event files, by step.

    Opening it for a run that goes on at `start_step` drops what was written for later steps (and
    a line that a killed process left torn), so that a step has one record at most. Use it as a
    context manager.
    """

    def __init__(self, directory: Path, config: LoggingConfig, *, start_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        _drop_after(path, start_step)
        self._file = path.open("a", encoding="utf-8")
        self._tensorboard = _tensorboard(directory, start_step) if config.tensorboard else None

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def write(self, step: int, values: Record) -> None:
        """Record values after `step` updates; None stands for "not measured".

        Raises ValueError for a value that is not finite.
        """
        line = json.dumps({"step": step, **values}, allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()
        known = {name: value for name, value in values.items() if value is not None}
        if self._tensorboard is not None:
            for name, value in known.items():
                self._tensorboard.add_scalar(name, value, step)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole record of a metrics file, in order; [] if there is none."""
    if not path.exists():
        return []
    # A line that a killed process left torn has no end of line.
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [json.dumps(record) + "\n" for record in read_metrics(path) if record["step"] <= step]
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _tensorboard(directory: Path, start_step: int) -> Any:
    # Imported when used: it costs most of a second.
    writer = importlib.import_module("tensorboardX").SummaryWriter
    return writer(str(directory), purge_step=start_step + 1)
