"""Time accounting with a clock by hand, progress numbers, and records that survive a kill."""

import struct
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from replay_jax.errors import UserError
from replay_jax.training.config import LoggingConfig
from replay_jax.training.metrics import (
    Meter,
    MetricsWriter,
    StepRecord,
    TimeSplit,
    Work,
    read_metrics,
)

QUIET = LoggingConfig(tensorboard=False, wandb_project="")


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def record(index, *, nats=(8.0, 6.0), weights=(4.0, 2.0)):
    return StepRecord(
        index=index,
        learning_rate=0.5,
        nats=np.array(nats, np.float32),
        weights=np.array(weights, np.float32),
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


def test_utilisation_is_unknown_without_a_peak():
    clock = Clock()
    split = TimeSplit(clock)
    meter = Meter(split, Work(30.0, 15.0, None), tokens_per_step=2, stop=9, every=1)
    with split.measure("train"):
        clock.time += 1
        progress = meter.add(record(0))
    assert progress.utilisation is None and progress.utilisation_causal is None


def test_records_survive_and_a_resumed_run_writes_each_step_once(tmp_path):
    with MetricsWriter(tmp_path, QUIET, run_id="r", start_step=0) as writer:
        for step in (10, 20, 30):
            writer.write(step, {"loss": step / 10, "target": None})
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 40, "lo')  # killed in the middle of a line
    assert [line["step"] for line in read_metrics(path)] == [10, 20, 30]
    with MetricsWriter(tmp_path, QUIET, run_id="r", start_step=20) as writer:
        writer.write(30, {"loss": -1.0})
    assert read_metrics(path) == [
        {"step": 10, "loss": 1.0, "target": None},
        {"step": 20, "loss": 2.0, "target": None},
        {"step": 30, "loss": -1.0},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert read_metrics(tmp_path / "nothing") == []


def test_a_value_that_is_not_a_number_is_refused(tmp_path):
    with MetricsWriter(tmp_path, QUIET, run_id="r", start_step=0) as writer:
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.write(1, {"loss": float("nan")})


def test_tensorboard_gets_the_same_numbers(tmp_path):
    config = LoggingConfig(tensorboard=True, wandb_project="")
    with MetricsWriter(tmp_path, config, run_id="r", start_step=0) as writer:
        writer.write(10, {"loss": 1.5, "target": None})
        writer.write(20, {"loss": 1.25, "target": 2.0})
    (file,) = tmp_path.glob("events.out.tfevents.*")
    content, scalars = file.read_bytes(), []
    while content:
        # A TFRecord: length, its checksum, the event, its checksum.
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + length :]
    assert scalars == [(10, "loss", 1.5), (20, "loss", 1.25), (20, "target", 2.0)]


def test_wandb_is_asked_for_by_name_only_when_wanted(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = LoggingConfig(tensorboard=False, wandb_project="replay")
    with pytest.raises(UserError, match=r"wandb is not installed; run pip install 'replay-jax\["):
        MetricsWriter(tmp_path, config, run_id="r", start_step=0)

    class Recorder:
        """Stands in for the wandb module and its run."""

        calls = []

        def init(self, **settings):
            self.calls.append(settings)
            return self

        def log(self, values, *, step):
            self.calls.append((step, values))

        def finish(self):
            self.calls.append("finish")

    monkeypatch.setitem(sys.modules, "wandb", Recorder())
    with MetricsWriter(tmp_path, config, run_id="abc", start_step=0) as writer:
        writer.write(3, {"loss": 1.0, "target": None})
    assert Recorder.calls == [
        {"project": "replay", "id": "abc", "resume": "allow"},
        (3, {"loss": 1.0}),
        "finish",
    ]
