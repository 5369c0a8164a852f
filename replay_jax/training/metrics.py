"""What the loop tells the outside: where the time goes and how fast it is."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

TIME_KINDS = ("train", "data_wait", "evaluate", "save", "compile")


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

    `index` is the update's 0-based number, so `index + 1` updates are complete. `nats`, `weights`
    and what was `minimised` are sums per source (`step.StepMetrics`), `source` and `row` [B] what
    this host's share of the batch was.
    """

    index: int
    learning_rate: float
    nats: np.ndarray
    weights: np.ndarray
    minimised: np.ndarray
    gradient_norm: float
    parameter_norm: float
    source: np.ndarray
    row: np.ndarray

    @property
    def loss(self) -> float:
        """Loss of the batch in nats per token, weighted as in training: what was minimised."""
        weight = float(self.weights.sum())
        return float(self.minimised.sum()) / weight if weight else math.nan

    def is_finite(self) -> bool:
        """Whether loss and gradient norm are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclass(frozen=True)
class Progress:
    """The last few steps in numbers: losses in nats per token, over the steps since the last one.

    `loss_by_source` holds that of next tokens and `minimised_by_source` what was minimised in its
    place, None for a source that was not drawn. `utilisation` counts full and
    `utilisation_causal` causally halved attention FLOPs against the peak of all devices; None
    where the peak is unknown. `goodput` is the share of all measured time spent on updates;
    `data_wait_seconds` and `compile_seconds` are the sums of this process's clock so far.
    """

    step: int
    stop: int
    loss: float
    loss_by_source: tuple[float | None, ...]
    minimised_by_source: tuple[float | None, ...]
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
        nats, minimised, weights = (
            np.array([getattr(record, name) for record in self._records], np.float64).sum(axis=0)
            for name in ("nats", "minimised", "weights")
        )
        times = self._clock.seconds
        return Progress(
            step=step,
            stop=self._stop,
            loss=float(minimised.sum() / weights.sum()),
            loss_by_source=_means(nats, weights),
            minimised_by_source=_means(minimised, weights),
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


def _means(sums: np.ndarray, weights: np.ndarray) -> tuple[float | None, ...]:
    """Of every source, None without weight."""
    pairs = zip(sums.tolist(), weights.tolist(), strict=True)
    return tuple(total / weight if weight else None for total, weight in pairs)
