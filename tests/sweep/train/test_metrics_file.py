"""Records that survive a kill, with every step once."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from replay_jax.sweep.train.metrics_file import MetricsWriter, read_metrics
from replay_jax.training.config import LoggingConfig

QUIET = LoggingConfig(tensorboard=False, wandb_project="")


def test_records_survive_and_a_resumed_run_writes_each_step_once(tmp_path):
    with MetricsWriter(tmp_path, QUIET, start_step=0) as writer:
        for step in (10, 20, 30):
            writer.write(step, {"loss": step / 10, "target": None})
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 40, "lo')  # killed in the middle of a line
    assert [line["step"] for line in read_metrics(path)] == [10, 20, 30]
    with MetricsWriter(tmp_path, QUIET, start_step=20) as writer:
        writer.write(30, {"loss": -1.0})
    assert read_metrics(path) == [
        {"step": 10, "loss": 1.0, "target": None},
        {"step": 20, "loss": 2.0, "target": None},
        {"step": 30, "loss": -1.0},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert read_metrics(tmp_path / "nothing") == []


def test_a_value_that_is_not_a_number_is_refused(tmp_path):
    with MetricsWriter(tmp_path, QUIET, start_step=0) as writer:
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.write(1, {"loss": float("nan")})


def test_tensorboard_gets_the_same_numbers(tmp_path):
    config = LoggingConfig(tensorboard=True, wandb_project="")
    with MetricsWriter(tmp_path, config, start_step=0) as writer:
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
