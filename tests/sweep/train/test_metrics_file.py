"""Records that survive a kill, with every step once."""

import resource
import signal
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from replay_jax.errors import UserError
from replay_jax.sweep.train.metrics_file import MetricsWriter, metrics_folder, read_metrics
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


@pytest.mark.parametrize(
    "line", [b"\0\0\0", b"[1]", b'{"loss": 1}', b"\xff", b'{"step": "3"}', b"{" * 9999]
)
def test_what_a_power_cut_left_is_no_reason_not_to_train(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 10}\n' + line + b'\n{"step": 20}\n')
    with MetricsWriter(tmp_path, QUIET, start_step=15) as writer:
        writer.write(20, {"loss": 1.0})
    assert read_metrics(path) == [{"step": 10}, {"step": 20, "loss": 1.0}]


def test_folders_tell_what_differs_and_keep_their_records_under_another_name(tmp_path):
    first = metrics_folder(tmp_path, "0–6 2 runs", "abcd")
    assert first.name == "0_6_2_runs-abcd"
    first.mkdir()
    (first / "metrics.jsonl").write_text('{"step": 1}\n')
    second = metrics_folder(tmp_path, "0–6 rho=0.5, seed 3", "abcd")
    assert [path.name for path in tmp_path.iterdir()] == [second.name]
    assert second.name == "0_6_rho=0.5_seed_3-abcd"
    assert read_metrics(second / "metrics.jsonl") == [{"step": 1}]


def test_a_full_disk_is_one_sentence_and_no_waiting_for_ever(tmp_path):
    """tensorboardX's own thread dies of it, and then nobody empties its queue."""
    config = LoggingConfig(tensorboard=True, wandb_project="")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(UserError, match=f"cannot write {tmp_path}: File too large"):
            with MetricsWriter(tmp_path, config, start_step=0) as writer:
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
                for step in range(500):
                    writer.write(step, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


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
