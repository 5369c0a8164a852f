"""What the loop tells the outside: where the time goes, how fast it is, and records on disk."""

import contextlib
import importlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from replay_jax.errors import UserError
from replay_jax.training.config import LoggingConfig

TIME_KINDS = ("train", "data_wait", "evaluate", "save", "compile")
Record = Mapping[str, float | int | None]


class TimeSplit:
    """Wall seconds by kind, each second counted once: an inner measurement is taken off the outer.

    `data_wait` is time in which the devices had nothing to do but wait for a batch.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._open: list[str] = []
        self._since = 0.0
        self._seconds = dict.fromkeys(TIME_KINDS, 0.0)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of every kind up to now."""
        self._settle()
        return dict(self._seconds)

    @contextlib.contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Count the time inside the context as `kind`."""
        self._settle()
        self._open.append(kind)
        try:
            yield
        finally:
            self._settle()
            self._open.pop()

    def move(self, seconds: float, *, source: str, to: str) -> None:
        """Count time as another kind once it is known what it was."""
        self._settle()
        self._seconds[source] -= seconds
        self._seconds[to] += seconds

    def _settle(self) -> None:
        now = self._now()
        if self._open:
            self._seconds[self._open[-1]] += now - self._since
        self._since = now


@dataclass(frozen=True)
class StepRecord:
    """One update as the host sees it, one step after it was started.

    `index` is the update's 0-based number, so `index + 1` updates are complete. `nats` and
    `weights` are sums per source, `source` and `row` [B] what this host's share of the batch was.
    """

    index: int
    learning_rate: float
    nats: np.ndarray
    weights: np.ndarray
    gradient_norm: float
    parameter_norm: float
    source: np.ndarray
    row: np.ndarray

    @property
    def loss(self) -> float:
        """Loss of the batch in nats per token, weighted as in training."""
        weight = float(self.weights.sum())
        return float(self.nats.sum()) / weight if weight else math.nan

    def is_finite(self) -> bool:
        """Whether loss and gradient norm are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclass(frozen=True)
class Progress:
    """The last few steps in numbers: losses in nats per token, over the steps since the last one.

    `loss_by_source` holds None for a source that was not drawn. `utilisation` counts full and
    `utilisation_causal` causally halved attention FLOPs against the peak of all devices; None
    where the peak is unknown. `goodput` is the share of all measured time spent on updates;
    `data_wait_seconds` and `compile_seconds` are the sums of this process's clock so far.
    """

    step: int
    stop: int
    loss: float
    loss_by_source: tuple[float | None, ...]
    learning_rate: float
    gradient_norm: float
    parameter_norm: float
    tokens_per_second: float
    utilisation: float | None
    utilisation_causal: float | None
    goodput: float
    data_wait_seconds: float
    compile_seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Work:
    """What one token costs and what the devices could do, for utilisation.

    FLOPs per token from `model.flops.flops_per_token`; `peak_flops_per_second` of all devices
    together (`peak.process_peak`), None if unknown.
    """

    flops_per_token: float
    flops_per_token_causal: float
    peak_flops_per_second: float | None


class Meter:
    """Turns step records into a `Progress` every `every` steps and at the end."""

    def __init__(
        self, clock: TimeSplit, work: Work, *, tokens_per_step: int, stop: int, every: int
    ) -> None:
        self._clock, self._work, self._tokens = clock, work, tokens_per_step
        self._stop, self._every = stop, every
        self._records: list[StepRecord] = []
        self._seconds_before = self._training_seconds()

    def add(self, record: StepRecord) -> Progress | None:
        """Take one step in; returns a progress when one is due."""
        self._records.append(record)
        step = record.index + 1
        if step % self._every and step != self._stop:
            return None
        seconds = self._training_seconds()
        spent = max(seconds - self._seconds_before, 1e-9)
        progress = self._progress(step, len(self._records) * self._tokens / spent)
        self._records, self._seconds_before = [], seconds
        return progress

    def _progress(self, step: int, rate: float) -> Progress:
        last = self._records[-1]
        nats = np.array([record.nats for record in self._records], np.float64).sum(axis=0)
        weights = np.array([record.weights for record in self._records], np.float64).sum(axis=0)
        times = self._clock.seconds
        return Progress(
            step=step,
            stop=self._stop,
            loss=float(nats.sum() / weights.sum()),
            loss_by_source=tuple(
                n / w if w else None for n, w in zip(nats.tolist(), weights.tolist(), strict=True)
            ),
            learning_rate=last.learning_rate,
            gradient_norm=last.gradient_norm,
            parameter_norm=last.parameter_norm,
            tokens_per_second=rate,
            utilisation=self._share(rate * self._work.flops_per_token),
            utilisation_causal=self._share(rate * self._work.flops_per_token_causal),
            goodput=times["train"] / max(sum(times.values()), 1e-9),
            data_wait_seconds=times["data_wait"],
            compile_seconds=times["compile"],
            seconds_left=(self._stop - step) * self._tokens / rate,
        )

    def _share(self, flops_per_second: float) -> float | None:
        peak = self._work.peak_flops_per_second
        return None if peak is None else flops_per_second / peak

    def _training_seconds(self) -> float:
        seconds = self._clock.seconds
        return seconds["train"] + seconds["data_wait"]


class MetricsWriter:
    """Appends records to a JSON-lines file, TensorBoard event files and W&B, by step.

    Opening it for a run that goes on at `start_step` drops what was written for later steps (and
    a line that a killed process left torn), so that a step has one record at most. Use it as a
    context manager. Raises UserError if W&B is asked for but not installed.
    """

    def __init__(
        self, directory: Path, config: LoggingConfig, *, run_id: str, start_step: int
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        _drop_after(path, start_step)
        self._file = path.open("a", encoding="utf-8")
        self._tensorboard = _tensorboard(directory, start_step) if config.tensorboard else None
        self._wandb = _wandb(config.wandb_project, run_id) if config.wandb_project else None

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

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
        if self._wandb is not None:
            self._wandb.log(known, step=step)


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


def _wandb(project: str, run_id: str) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(
            f"logging.wandb_project is {project!r}, but wandb is not installed; run "
            "pip install 'replay-jax[wandb]' or set it to ''."
        ) from error
    return wandb.init(project=project, id=run_id, resume="allow")
