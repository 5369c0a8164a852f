"""Time accounting with a clock by hand, and progress numbers."""

import numpy as np
import pytest

from replay_jax.training.metrics import (
    Meter,
    StepRecord,
    TimeSplit,
    Work,
)


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def record(index, *, nats=(8.0, 6.0), weights=(4.0, 2.0), minimised=None):
    return StepRecord(
        index=index,
        learning_rate=0.5,
        nats=np.array(nats, np.float32),
        weights=np.array(weights, np.float32),
        minimised=np.array(nats if minimised is None else minimised, np.float32),
        gradient_norm=1.0,
        parameter_norm=2.0,
        source=np.zeros(2, np.int32),
        row=np.arange(2),
    )


def test_every_second_is_counted_once():
    clock = Clock()
    split = TimeSplit(clock)
    clock.time += 7  # outside of any measurement
    with split.measure("train"):
        clock.time += 1
        with split.measure("evaluate"):
            clock.time += 10
            with split.measure("compile"):
                clock.time += 100
        clock.time += 2
        assert split.seconds["train"] == 3
        clock.time += 4
        split.move(3.0, source="train", to="data_wait")
    clock.time += 7
    assert split.seconds == {
        "train": 4.0,
        "data_wait": 3.0,
        "evaluate": 10.0,
        "save": 0.0,
        "compile": 100.0,
    }


def test_time_is_counted_when_the_work_fails():
    clock = Clock()
    split = TimeSplit(clock)
    with pytest.raises(RuntimeError), split.measure("save"):
        clock.time += 5
        raise RuntimeError
    clock.time += 1
    assert split.seconds["save"] == 5


def test_progress_sums_then_divides():
    clock = Clock()
    split = TimeSplit(clock)
    work = Work(flops_per_token=30.0, flops_per_token_causal=15.0, peak_flops_per_second=1200.0)
    meter = Meter(split, work, tokens_per_step=20, stop=5, every=2)
    with split.measure("compile"):
        clock.time += 3
    with split.measure("train"):
        clock.time += 1
        assert meter.add(record(0, nats=(4.0, 0.0), weights=(4.0, 0.0))) is None
        with split.measure("evaluate"):
            clock.time += 50
        clock.time += 1
        progress = meter.add(record(1, nats=(9.0, 0.0), weights=(1.0, 0.0)))
        assert (progress.step, progress.stop) == (2, 5)
        # 13 nats in 5 tokens, not the mean of 1 and 9.
        assert progress.loss == pytest.approx(2.6)
        assert progress.loss_by_source == (pytest.approx(2.6), None)
        # 40 tokens in 2 s of training; evaluation and compilation do not count.
        assert progress.tokens_per_second == pytest.approx(20.0)
        assert progress.utilisation == pytest.approx(20 * 30 / 1200)
        assert progress.utilisation_causal == pytest.approx(20 * 15 / 1200)
        assert progress.goodput == pytest.approx(2 / 55)
        assert (progress.data_wait_seconds, progress.compile_seconds) == (0, 3)
        assert progress.seconds_left == pytest.approx(3 * 20 / 20)
        clock.time += 10
        assert meter.add(record(2)) is None
        assert meter.add(record(3)).tokens_per_second == pytest.approx(4.0)
        # The last step is always reported.
        clock.time += 1
        assert meter.add(record(4)).tokens_per_second == pytest.approx(20.0)


def test_the_loss_is_what_was_minimised_and_next_tokens_are_told_beside_it():
    clock = Clock()
    meter = Meter(TimeSplit(clock), Work(30.0, 15.0, None), tokens_per_step=2, stop=9, every=1)
    clock.time += 1
    held = record(0, minimised=(1.0, 6.0))
    progress = meter.add(held)
    assert held.loss == progress.loss == pytest.approx(7 / 6)
    assert progress.loss_by_source == (2.0, 3.0)
    assert progress.minimised_by_source == (0.25, 3.0)


def test_utilisation_is_unknown_without_a_peak():
    clock = Clock()
    split = TimeSplit(clock)
    meter = Meter(split, Work(30.0, 15.0, None), tokens_per_step=2, stop=9, every=1)
    with split.measure("train"):
        clock.time += 1
        progress = meter.add(record(0))
    assert progress.utilisation is None and progress.utilisation_causal is None
