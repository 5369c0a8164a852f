"""The loop: order of events, one step late, nothing lost at a stop, a point or a bad loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL, OPTIMIZER, batch, digest, mesh_of, one_device, run

from replay_jax.training.config import Profile
from replay_jax.training.loop import NonFiniteLoss, train_span
from replay_jax.training.metrics import TimeSplit
from replay_jax.training.span import Hooks, Programs, Span
from replay_jax.training.step import (
    StepMetrics,
    TrainState,
    compile_reset,
)

ROWS = 4


class Events:
    """Stand-ins for the compiled programs and the caller, writing down what happens when."""

    def __init__(self, *, nan_at=None, stop_at=None, zero_at=None):
        self.log, self.records, self.rates = [], [], []
        self.nan_at, self.stop_at, self.zero_at = nan_at, stop_at, zero_at
        self.mesh = mesh_of(1, 1, 1)

    def step(self, state, placed, hyper):
        index = int(state.step)
        self.log.append(f"start {index}")
        self.rates.append(float(hyper["learning_rate"]))
        assert set(placed) == {"inputs", "labels", "loss_weights", "source"}
        assert set(hyper) == {"learning_rate", "weight_decay", "b1", "b2", "epsilon", "clip_norm"}
        bad = index == self.nan_at
        weight = 0.0 if index == self.zero_at else 2.0
        metrics = StepMetrics(
            nats=jax.device_put(np.array([index, 1.0], np.float32)),
            weights=jax.device_put(np.full(2, weight, np.float32)),
            gradient_norm=jax.device_put(np.float32(np.inf if bad else 1.0)),
            parameter_norm=jax.device_put(np.float32(1.0)),
        )
        return TrainState(np.int32(index + 1), state.params, state.opt_state), metrics

    def reset(self, state):
        self.log.append(f"reset before {int(state.step)}")
        return state

    def batches(self, start, stop):
        for index in range(start, stop):
            self.log.append(f"fetch {index}")
            yield batch(index, rows=ROWS)

    def hooks(self):
        return Hooks(
            on_step=self.on_step,
            on_point=lambda step, state: self.log.append(f"point {step} {int(state.step)}"),
            should_stop=lambda step: self.stop_at is not None and step >= self.stop_at,
        )

    def on_step(self, record):
        self.log.append(f"seen {record.index}")
        self.records.append(record)

    def train(self, start, stop, *, points=(), resets=(), clock=None, profile=None):
        span = Span(
            start=start,
            stop=stop,
            learning_rates=np.arange(10, dtype=np.float32) / 8,
            resets=np.isin(np.arange(10), resets),
            optimizer=OPTIMIZER,
            source_names=("generic", "target"),
            points=frozenset(points),
        )
        return train_span(
            TrainState(np.int32(start), None, None),
            span=span,
            programs=Programs(self.mesh, self.step, self.reset),
            batches=self.batches(start, stop),
            hooks=self.hooks(),
            clock=clock or TimeSplit(),
            profile=profile,
        )


def test_the_next_batch_is_fetched_and_the_last_step_read_while_one_runs():
    events = Events()
    end = events.train(2, 5)
    assert events.log == [
        "fetch 2",
        "start 2",
        "fetch 3",
        "start 3",
        "fetch 4",
        "seen 2",
        "start 4",
        "seen 3",
        "seen 4",
    ]
    assert (end.step, end.stopped, int(end.state.step)) == (5, False, 5)
    assert events.rates == [2 / 8, 3 / 8, 4 / 8]


def test_records_carry_the_sums_and_the_rows_of_their_own_batch():
    events = Events()
    events.train(2, 5)
    assert [record.index for record in events.records] == [2, 3, 4]
    for record in events.records:
        assert record.row.tolist() == (record.index * 1000 + np.arange(ROWS)).tolist()
        assert record.source.tolist() == [0, 0, 0, 1]
        assert record.loss == (record.index + 1.0) / 4.0
        assert record.learning_rate == record.index / 8


def test_points_see_a_state_whose_steps_were_all_read():
    events = Events()
    events.train(0, 4, points=(2, 4, 7))
    log = events.log
    assert log[log.index("point 2 2") - 1] == "seen 1"
    assert log[log.index("point 2 2") + 1] == "start 2"
    assert log[-2:] == ["seen 3", "point 4 4"]


def test_resets_come_before_their_step():
    events = Events()
    events.train(0, 4, resets=(0, 3, 9))
    resets = [line for line in events.log if "reset" in line]
    assert resets == ["reset before 0", "reset before 3"]
    assert events.log[events.log.index("reset before 3") + 1] == "start 3"


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_a_stop_loses_nothing(stop_at):
    events = Events(stop_at=stop_at)
    end = events.train(0, 5)
    assert (end.step, end.stopped, int(end.state.step)) == (stop_at, True, stop_at)
    assert [record.index for record in events.records] == list(range(stop_at))


def test_an_empty_span_does_nothing():
    events = Events()
    end = events.train(3, 3)
    assert (end.step, end.stopped) == (3, False) and events.log == []


@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_loss_that_is_not_finite_stops_within_one_step_and_names_the_rows(at):
    events = Events(nan_at=at)
    with pytest.raises(NonFiniteLoss) as caught:
        events.train(0, 5, points=range(1, 6) if at == 2 else ())
    assert isinstance(caught.value, FloatingPointError)
    rows = [at * 1000 + row for row in range(ROWS)]
    assert str(caught.value) == (
        f"Update {at} has loss {at + 1} nats in 4 tokens and gradient norm inf; the rows of its "
        f"batch are generic {rows[0]}, {rows[1]}, {rows[2]}; target {rows[3]}."
    )
    assert f"start {at + 2}" not in events.log
    assert f"point {at + 1} {at + 1}" not in events.log
    assert [record.index for record in events.records] == list(range(at))


def test_a_batch_without_weight_is_explained():
    with pytest.raises(NonFiniteLoss, match=r"in 0 tokens .* \(all loss weights .* are zero\)"):
        Events(zero_at=1).train(0, 3)


def test_time_is_split_between_the_loop_and_what_the_caller_does():
    """A clock that ticks once per reading: all kinds together are all ticks."""
    ticks = iter(range(10**6))
    clock = TimeSplit(lambda: float(next(ticks)))
    events = Events()
    original = events.hooks

    def hooks():
        def on_point(step, state):
            with clock.measure("evaluate"):
                for _ in range(50):
                    assert clock.seconds

        return Hooks(original().on_step, on_point, original().should_stop)

    events.hooks = hooks
    events.train(0, 3, points=(2,), clock=clock)
    seconds = clock.seconds
    assert seconds["evaluate"] == 51
    # After the span, the clock was read once for its seconds and once here.
    assert seconds["train"] + seconds["data_wait"] + 51 == next(ticks) - 2
    # The first batch is always waited for; the stand-in step is done at once, so all others too.
    assert seconds["data_wait"] > 0


def test_a_short_batch_stream_is_an_error():
    events = Events()
    events.batches = lambda start, stop: iter([batch(0, rows=ROWS)])
    with pytest.raises(ValueError, match="batches ended before update 1 of the span from 0 to 3"):
        events.train(0, 3)


def test_a_span_needs_a_rate_for_every_step():
    with pytest.raises(ValueError, match="needs 12 learning rates"):
        Events().train(0, 12)


def test_profiles_cover_the_steps_asked_for(tmp_path, monkeypatch):
    events = Events()
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: events.log.append(f"on {path}"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: events.log.append("off"))
    events.train(0, 5, profile=Profile(1, 3, tmp_path))
    log = [line for line in events.log if line.split()[0] in ("on", "off", "start")]
    assert log == ["start 0", f"on {tmp_path}", "start 1", "start 2", "off", "start 3", "start 4"]
    # A span that ends inside the range still writes its trace.
    events = Events(stop_at=2)
    events.train(0, 5, profile=Profile(1, 9, tmp_path))
    assert events.log[-1] == "off" and events.log.count("off") == 1


def test_the_real_programs_give_what_plain_steps_give():
    """Same states with and without points, resets as arithmetic, spans joined end to end."""
    mesh, init, step = one_device()
    programs = Programs(mesh, step, compile_reset(MODEL, mesh))
    seen = []

    def train(state, start, stop, *, points=()):
        span = Span(
            start=start,
            stop=stop,
            learning_rates=np.full(6, 1e-2, np.float32),
            resets=np.arange(6) == 4,
            optimizer=OPTIMIZER,
            source_names=("generic", "target"),
            points=frozenset(points),
        )
        hooks = Hooks(seen.append, lambda *_: None, lambda _: False)
        batches = (batch(seed) for seed in range(start, stop))
        return train_span(
            state,
            span=span,
            programs=programs,
            batches=batches,
            hooks=hooks,
            clock=TimeSplit(),
        ).state

    whole = train(init(0), 0, 6)
    joined = train(train(init(0), 0, 3, points=(1, 2)), 3, 6)
    assert digest(whole) == digest(joined)
    plain, losses = run(step, init(0), mesh, range(4))
    plain, more = run(step, programs.reset(plain), mesh, (4, 5))
    assert digest(whole) == digest(plain)
    assert [record.loss for record in seen[:6]] == pytest.approx(
        [loss for loss, _ in losses + more], rel=1e-6
    )
    assert int(whole.step) == 6 and int(whole.opt_state.count) == 2
    assert jnp.isfinite(whole.params["head"]).all()
