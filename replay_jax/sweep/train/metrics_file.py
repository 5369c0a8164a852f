"""Records of an edge under way on disk: JSON lines and TensorBoard, each step once."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from replay_jax.errors import UserError
from replay_jax.sweep.train.events_file import EventsFile, folder_name
from replay_jax.training.config import LoggingConfig

Record = Mapping[str, float | int | None]


class MetricsWriter:
    """Appends records to a JSON-lines file and TensorBoard event files, by step.

    Opening it for a run that goes on at `start_step` drops what was written for later steps (and
    a line that a killed process left torn), so that a step has one record at most. Use it as a
    context manager.
    """

    def __init__(self, directory: Path, config: LoggingConfig, *, start_step: int) -> None:
        self._directory = directory
        path = directory / "metrics.jsonl"
        with _place_named(directory):
            directory.mkdir(parents=True, exist_ok=True)
            _drop_after(path, start_step)
            self._file = path.open("a", encoding="utf-8")
            wanted = config.tensorboard
            self._events = EventsFile(directory, start_step=start_step) if wanted else None

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What could not be written is tried once more at the end; the first error says more.
        spared = contextlib.suppress(OSError) if kind else _place_named(self._directory)
        with spared, contextlib.ExitStack() as both:
            both.callback(self._file.close)
            if self._events is not None:
                both.enter_context(self._events)

    def write(self, step: int, values: Record) -> None:
        """Record values after `step` updates; None stands for "not measured".

        Raises ValueError for a value that is not finite, UserError where it cannot be written.
        """
        line = json.dumps({"step": step, **values}, allow_nan=False)
        known = {name: value for name, value in values.items() if value is not None}
        with _place_named(self._directory):
            self._file.write(line + "\n")
            self._file.flush()
            if self._events is not None:
                for name, value in known.items():
                    self._events.add(name, value, step)
                self._events.flush()


@contextlib.contextmanager
def _place_named(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror or error}") from error


def metrics_folder(root: Path, name: str, id: str) -> Path:
    """Where the records of an edge go; what another sweep called otherwise is renamed."""
    folder = root / folder_name(name, id)
    for old in root.glob(f"*{id}") if root.exists() else ():
        if old != folder and not folder.exists():
            old.rename(folder)
    return folder


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole records of a metrics file up to the first that is none, in order.

    A power cut may leave a line torn, or zeros in its place: they are no reason not to train.
    """
    records: list[dict[str, Any]] = []
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        records.append(record)
    return records


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
