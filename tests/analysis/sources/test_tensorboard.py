"""What is read of TensorBoard's files, and that our own runs come back as they were sent."""

import json
import struct

import numpy as np
import pyarrow.csv
import pytest
from etils import epath
from places import ROOT
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.record_writer import masked_crc32c

from replay_jax.analysis.advice.every_group import recommend_every_group
from replay_jax.analysis.sources.tensorboard import read_tensorboard
from replay_jax.errors import UserError
from replay_jax.library.analysing.places import Spoken, analyse_place
from replay_jax.library.gathering import gathered
from replay_jax.sweep.drive.trackers import write_tensorboard
from replay_jax.sweep.train.events_file import EventsFile

EXAMPLE = ROOT / "docs/examples/runs.csv"


def answers(study):
    return [
        each.to_json() for t in study.targets for each in recommend_every_group(study, t.target)
    ]


def sent():
    """Real runs at one number of epochs: three reference budgets and two replay fractions."""
    lines = (ROOT / "experiments/quickstart/results.jsonl").read_text().splitlines()
    kept = []
    for record in map(json.loads, lines):
        rho = record["replay_fraction"]["requested"]
        if record["target_epochs"] in (16, 24) and (rho in (0, 0.75)):
            kept.append(record)
    return kept


def test_runs_of_ours_come_back_as_their_directory_would_be_analysed(tmp_path):
    records = sent()
    for record in reversed(records):
        write_tensorboard(record, epath.Path(tmp_path / "w" / "tensorboard"))
    found = analyse_place(str(tmp_path / "w" / "tensorboard"), Spoken())
    assert answers(found.study) == answers(gathered([("w", r) for r in records]).study)
    assert found.study.targets[0].documents is not None  # what no scalar says
    with pytest.raises(UserError, match="say themselves what is compared"):
        analyse_place(str(tmp_path / "w" / "tensorboard"), Spoken(tuned=("lr",)))
    write(tmp_path / "w" / "tensorboard" / "other", {"seed": 1}, {"loss": 1.0})
    with pytest.raises(UserError, match="such as other, were not: analyse the two kinds apart"):
        analyse_place(str(tmp_path / "w" / "tensorboard"), Spoken())


def write(folder, settings, values):
    """A run of another trainer: settings as a JSON text, scalars by step."""
    folder.mkdir(parents=True)
    with EventsFile(folder) as events:
        events.add_text("config", json.dumps(settings))
        for name, value in values.items():
            events.add(name, value + 1.0, 10)
            events.add(name, value, 20)


def test_a_folder_of_another_trainer_gives_the_answer_of_its_table(tmp_path):
    rows = pyarrow.csv.read_csv(EXAMPLE).to_pylist()
    for number, row in enumerate(rows):
        settings = {
            "data": {"budget": row["budget"], "rho": row["rho"]},
            "train": {"epochs": row["epochs"], "steps": 100, "out": f"runs/{number}"},
            "seed": row["seed"],
        }
        write(tmp_path / "runs" / f"{number:03}", settings, {"eval/loss": row["eval_loss"]})
    with pytest.raises(UserError, match="differ between runs: train.out; name each with --tun"):
        analyse_place(str(tmp_path / "runs"), Spoken())
    found = analyse_place(str(tmp_path / "runs"), Spoken(ignore=("out",)))
    assert found.folder == tmp_path / "runs_report"
    (ours,) = answers(found.study)
    (theirs,) = answers(analyse_place(str(EXAMPLE), Spoken()).study)
    # Event files hold single precision; the table says nothing of steps.
    for name in ("multiplier", "gain_nats"):
        assert [ours[name][end] for end in ("value", "low", "high")] == pytest.approx(
            [theirs[name][end] for end in ("value", "low", "high")], rel=1e-4
        )
    assert ours["replay_fraction"] == theirs["replay_fraction"]
    assert ours["verdict"] == theirs["verdict"]
    assert ours["price"]["extra"] == 0 and theirs["price"] is None


def test_hyperparameters_in_a_folder_within_the_runs_are_the_runs(tmp_path):
    with SummaryWriter(str(tmp_path / "a")) as writer:
        writer.add_scalar("loss", 3.0, 1)
        writer.add_scalar("loss", 2.0, 5)
        writer.add_hparams({"seed": 3, "rho": 0.5, "shuffle": True, "model": "small"}, {"hp": 1.0})
    (run,) = read_tensorboard(epath.Path(tmp_path))
    assert run.name == "a" and run.record is None
    assert run.settings == {"seed": 3.0, "rho": 0.5, "shuffle": True, "model": "small"}
    assert run.values == {"loss": 2.0, "hp": 1.0}


def test_runs_whose_folders_share_a_last_name_are_runs_of_their_own(tmp_path):
    """As Lightning lays them out, or a sweep with a folder for each setting."""
    for place, loss in (("lr.2/a", 2.0), ("lr.2/b", 3.0), ("runs", 4.0)):
        write(tmp_path / "runs" / place, {"seed": 1}, {"loss": loss})
    with SummaryWriter(str(tmp_path / "runs" / "lr.1" / "a")) as writer:
        writer.add_scalar("loss", 1.0, 3)
        writer.add_hparams({"rho": 0.5}, {"hp": 1.0})
        writer.add_scalars("both", {"train": 1.0, "test": 2.0}, 3)
    found = {r.name: r.values["loss"] for r in read_tensorboard(epath.Path(tmp_path / "runs"))}
    assert found == {"lr.1/a": 1.0, "lr.2/a": 2.0, "lr.2/b": 3.0, "runs": 4.0}
    with EventsFile(tmp_path / "runs") as events:  # beside a run of the same name
        events.add("loss", 5.0, 1)
    losses = [run.values["loss"] for run in read_tensorboard(epath.Path(tmp_path / "runs"))]
    assert sorted(losses) == [1.0, 2.0, 3.0, 4.0, 5.0]


def frame(event):
    payload = event.SerializeToString()
    header = struct.pack("<Q", len(payload))
    check = (struct.pack("<I", masked_crc32c(part)) for part in (header, payload))
    return header + next(check) + payload + next(check)


def tensor(tag, step, **content):
    value = Summary.Value(tag=tag, tensor=TensorProto(**content))
    return Event(step=step, summary=Summary(value=[value]))


def test_tensors_restarts_and_unfinished_files(tmp_path):
    """As TensorFlow 2 writes scalars; what a restart trained again counts from there on."""
    raw = np.array([1.25], "<f4").tobytes()
    restart = Event(step=5)
    restart.session_log.status = 1
    events = [
        tensor("loss", 1, dtype="DT_FLOAT", float_val=[4.0]),
        tensor("loss", 9, dtype="DT_FLOAT", float_val=[9.0]),
        restart,
        tensor("loss", 7, dtype="DT_FLOAT", tensor_content=raw),
        tensor("many", 7, dtype="DT_FLOAT", float_val=[1.0, 2.0]),
    ]
    content = b"".join(map(frame, events))
    file = tmp_path / "events.out.tfevents.1"
    file.write_bytes(content + frame(tensor("loss", 9, dtype="DT_DOUBLE", double_val=[0.5]))[:-3])
    (run,) = read_tensorboard(epath.Path(tmp_path))
    assert (run.name, run.values) == (tmp_path.name, {"loss": 1.25})
    for place in (content.index(raw), 0):
        file.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        with pytest.raises(UserError, match="tfevents.1 is damaged"):
            read_tensorboard(epath.Path(tmp_path))
    file.unlink()
    with pytest.raises(UserError, match="no event file of TensorBoard"):
        read_tensorboard(epath.Path(tmp_path))
