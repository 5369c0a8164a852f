"""A span of training in reading order: dispatch a step, fetch the next batch, read the last step.

The devices always have a step to work on while the host reads the metrics of the one before, so
nothing here waits for a step that was just started, except at the points where the caller looks at
the state.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from replay_jax.training.averaging import apart, with_average
from replay_jax.training.config import Profile
from replay_jax.training.gradient import DeviceBatch
from replay_jax.training.metrics import StepRecord, TimeSplit
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.span import Hooks, Programs, Span
from replay_jax.training.step import StepMetrics, TrainState, place_batch, place_hyper

HostBatch = Mapping[str, np.ndarray]
_ROWS_NAMED = 16


class NonFiniteLoss(FloatingPointError):
    """A loss or gradient norm that is not a number; the message names the update and its rows."""


@dataclass(frozen=True)
class SpanEnd:
    """Where a span ended: the state after `step` updates, and whether it was told to stop."""

    state: TrainState
    step: int
    stopped: bool


def train_span(
    state: TrainState,
    *,
    span: Span,
    programs: Programs,
    batches: Iterator[HostBatch],
    hooks: Hooks,
    clock: TimeSplit,
    profile: Profile | None = None,
) -> SpanEnd:
    """Train from `span.start` to `span.stop`; the given state, with its average, is consumed.

    `batches` yields this host's part of the batches of the span, in order, and is not asked for
    more. Raises NonFiniteLoss as soon as the loss or gradient norm of an update is seen not to be
    finite; no point is reached after it.
    """
    flight = _Flight(span, hooks)
    tracer = Tracer(profile)
    # All but the learning rate stays the same, so it is placed once.
    hyper = place_hyper(hyperparameters(span.optimizer, 0.0), programs.mesh)
    averaging = span.stop if span.average_start is None else span.average_start
    state, average = apart(state)
    stopped, step = False, span.start
    with clock.measure("train"), tracer:
        batch = _fetch(batches, step, span, programs.mesh, flight, clock)
        while step < span.stop:
            if hooks.should_stop(step):
                stopped = True
                break
            assert batch is not None
            host, placed = batch
            tracer.before(step, state)
            if span.resets[step]:
                state = programs.reset(state)
            rate = {"learning_rate": np.float32(span.learning_rates[step])}
            hyper = {**hyper, **place_hyper(rate, programs.mesh)}
            # Anything that is still on the host here would be copied again at every step.
            with jax.transfer_guard("disallow"):
                state, metrics = programs.update(step)(state, placed, hyper)
            flight.launch(step, metrics, host)
            step += 1
            if step > averaging:
                assert programs.average is not None
                average = programs.average(average, state.params, step - averaging)
            batch = _fetch(batches, step, span, programs.mesh, flight, clock)
            flight.land(leave=1)
            if step in span.points:
                flight.land()
                hooks.on_point(step, with_average(state, average))
        flight.land()
        tracer.before(step, state)
    return SpanEnd(with_average(state, average), step, stopped)


class _Flight:
    """Updates that were started and whose metrics the host has not read."""

    def __init__(self, span: Span, hooks: Hooks) -> None:
        self._span, self._hooks = span, hooks
        self._launched: list[tuple[int, StepMetrics, HostBatch]] = []

    def launch(self, index: int, metrics: StepMetrics, host: HostBatch) -> None:
        self._launched.append((index, metrics, host))

    def is_idle(self) -> bool:
        """Whether the devices have finished all that was started."""
        last = [metrics.gradient_norm for _, metrics, _ in self._launched[-1:]]
        return all(norm.is_ready() for norm in last)  # type: ignore[attr-defined]

    def land(self, *, leave: int = 0) -> None:
        """Read the metrics of all updates but the last `leave`."""
        while len(self._launched) > leave:
            index, metrics, host = self._launched.pop(0)
            self._hooks.on_step(step_record(index, jax.device_get(metrics), host, self._span))


def step_record(index: int, metrics: StepMetrics, host: HostBatch, span: Span) -> StepRecord:
    """What the host sees of update `index`, from its metrics (read) and its batch.

    Raises NonFiniteLoss if the loss or the gradient norm is not a number.
    """
    nats, minimised = metrics.nats, metrics.minimised
    record = StepRecord(
        index=index,
        learning_rate=float(span.learning_rates[index]),
        nats=np.asarray(nats),
        weights=np.asarray(metrics.weights),
        minimised=np.asarray(nats if minimised is None else minimised),
        gradient_norm=float(metrics.gradient_norm),
        parameter_norm=float(metrics.parameter_norm),
        source=host["source"],
        row=host["row"],
    )
    if not record.is_finite():
        raise NonFiniteLoss(_non_finite(record, span.source_names))
    return record


class Tracer:
    """Starts and stops the profiler around the steps asked for, also when a span ends early."""

    def __init__(self, profile: Profile | None) -> None:
        self._profile, self.running = profile, False

    def __enter__(self) -> "Tracer":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def before(self, step: int, state: TrainState) -> None:
        """Called before update `step`, with the state that it starts from."""
        if self._profile is None:
            return
        if self.running and step >= self._profile.last:
            jax.block_until_ready(state)
            self._stop()
        elif not self.running and self._profile.first <= step < self._profile.last:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._profile.directory))
            self.running = True

    def _stop(self) -> None:
        if self.running:
            self.running = False
            jax.profiler.stop_trace()


def _fetch(
    batches: Iterator[HostBatch],
    step: int,
    span: Span,
    mesh: Mesh,
    flight: _Flight,
    clock: TimeSplit,
) -> tuple[HostBatch, DeviceBatch] | None:
    """Take the batch of update `step` to the devices while they work on the last one.

    None past the end of the span. The time counts as waiting for data only if the devices ran
    out of work meanwhile: an upper bound, as part of it they were still busy.
    """
    if step == span.stop:
        return None
    before = clock.seconds["train"]
    host = next(batches, None)
    if host is None:
        raise ValueError(
            f"The batches ended before update {step} of the span from {span.start} to {span.stop}."
        )
    placed = place_batch(host, mesh)
    if flight.is_idle():
        clock.move(clock.seconds["train"] - before, source="train", to="data_wait")
    return host, placed


def _non_finite(record: StepRecord, source_names: tuple[str, ...]) -> str:
    rows = []
    for number, name in enumerate(source_names):
        mine = record.row[record.source == number].tolist()
        if mine:
            more = f" and {len(mine) - _ROWS_NAMED} more" if len(mine) > _ROWS_NAMED else ""
            rows.append(f"{name} {', '.join(str(row) for row in mine[:_ROWS_NAMED])}{more}")
    cause = "" if record.weights.sum() > 0 else " (all loss weights of the batch are zero)"
    return (
        f"Update {record.index} has loss {float(record.minimised.sum()):g} nats in "
        f"{float(record.weights.sum()):g} tokens and gradient norm {record.gradient_norm:g}"
        f"{cause}; the rows of its batch are {'; '.join(rows)}."
    )
