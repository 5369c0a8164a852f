"""One run of W&B and one folder of TensorBoard per run of a sweep, from its record alone."""

import json
import shutil
import struct
import sys

import pytest
from fake_wandb import FakeWandb
from folder_bucket import folder_as_bucket
from tensorboardX.proto.event_pb2 import Event
from tiny_sweep import RHO, SWEEP

from replay_jax.config.grid import grid
from replay_jax.errors import UserError
from replay_jax.sweep.drive import trackers
from replay_jax.sweep.drive.trackers import history, nested
from replay_jax.sweep.drive.tracking import Tracking, send_to_wandb_again, unsent
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.config import LoggingConfig

LOGGED = {"logging__wandb_project": "p", "logging__tensorboard": True}


@pytest.fixture
def wandb(monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    return fake


def records(workdir):
    lines = (workdir / "results.jsonl").read_text().splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def scalars(folder):
    """Step, name and value of all that is in a folder's event files."""
    (file,) = folder.iterdir()
    content, found = file.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = Event.FromString(content[12 : 12 + length])
        found += [
            (event.step, value.tag, value.simple_value)
            for value in event.summary.value
            if value.HasField("simple_value")
        ]
        content = content[16 + length :]
    return found


@pytest.fixture(scope="module")
def tracked(study, tmp_path_factory):
    """Three runs that part in their last stage, sent to a stand-in for W&B."""
    workdir, fake = tmp_path_factory.mktemp("tracked"), FakeWandb()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "wandb", fake)
        patch.delenv("WANDB_DIR", raising=False)
        assert study.train(SWEEP[:3], workdir, here=True, **LOGGED).failures == ()
    return workdir, fake


def test_every_run_is_one_of_wandb_with_all_of_its_way(tracked):
    workdir, fake = tracked
    known = records(workdir)
    assert len(known) == 3 and fake.runs.keys() == known.keys() and len(fake.inits) == 3
    for id, run in fake.runs.items():
        record = known[id]
        assert run.ended and run.settings["name"] == record["name"]
        assert (run.settings["project"], run.settings["group"]) == ("p", workdir.name)
        assert run.settings["resume"] == "allow" and run.settings["dir"] == str(workdir)
        overrides = {"schedule": {"replay_fraction": record["overrides"][RHO]}}
        assert run.settings["config"] == {**record["config"], "overrides": overrides}
        assert list(run.points) == [point["step"] for point in record["curve"]]
        first = record["curve"][0]
        assert run.points[first["step"]]["loss/target"] == first["target"]
        # Also steps of prefixes that were trained once for several.
        shared = [span["step"] for span in record["history"] if span["runs"] > 1]
        assert min(run.points) <= max(shared)
        assert run.points[12]["loss/generic"] == record["losses"]["generic"]
        assert run.summary["losses"] == record["losses"]


def test_every_run_has_a_folder_of_events_with_its_name(tracked):
    workdir, fake = tracked
    names = {f"replay_fraction={rho}-" for rho in ("0", "0.5", "0.75")}
    folders = {path.name: path for path in (workdir / "tensorboard").iterdir()}
    assert {name[:-16] for name in folders} == names
    for name, folder in folders.items():
        points = fake.runs[name[-16:]].points
        wanted = [(s, k, pytest.approx(v)) for s, here in points.items() for k, v in here.items()]
        assert scalars(folder) == wanted


def test_what_was_sent_is_not_sent_again_and_what_was_not_is(tracked, study, wandb, tmp_path):
    workdir = shutil.copytree(tracked[0], tmp_path / "w")
    study.train(SWEEP[:3], workdir, here=True, **LOGGED)
    assert wandb.inits == []
    # Lost with the process, or never sent: whoever comes next sends it, to the same run.
    (lost, other, _) = sorted(records(workdir))
    (mark,) = (workdir / "sent").glob(f"{lost}-*.json")
    mark.unlink()
    assert send_to_wandb_again(WorkStore(workdir)) is None
    assert wandb.inits == [lost]
    assert list(wandb.runs[lost].points) == list(tracked[1].runs[lost].points)
    # Another project has none of them yet.
    elsewhere = {**LOGGED, "logging__wandb_project": "q"}
    study.train(SWEEP[:3], workdir, here=True, **elsewhere)
    assert len(wandb.inits) == 4 and wandb.runs[other].settings["project"] == "q"


def test_a_sweep_in_a_bucket_is_sent_as_one_on_a_disk(tracked, wandb, tmp_path, monkeypatch):
    bucket = folder_as_bucket(tmp_path / "cloud", monkeypatch)
    shutil.copytree(tracked[0], bucket / "w")
    shutil.rmtree(bucket / "w" / "sent")
    shutil.rmtree(bucket / "w" / "tensorboard")
    assert send_to_wandb_again(WorkStore("gs://bucket/w")) is None
    assert wandb.runs.keys() == records(tracked[0]).keys()
    assert {run.settings["dir"] for run in wandb.runs.values()} == {None}
    assert {run.settings["group"] for run in wandb.runs.values()} == {"w"}
    names = {path.name for path in (bucket / "w" / "tensorboard").iterdir()}
    assert names == {path.name for path in (tracked[0] / "tensorboard").iterdir()}


def test_a_fault_of_wandb_ends_no_training_and_is_said(tracked, wandb, tmp_path):
    workdir = shutil.copytree(tracked[0], tmp_path / "w")
    shutil.rmtree(workdir / "sent")
    wandb.fault = OSError("no route to host\nand more")
    store = WorkStore(workdir)
    wanted = dict.fromkeys(records(workdir), LoggingConfig(False, "p"))
    with Tracking(store, wanted) as tracking:
        tracking.add(next(iter(wanted)))
    assert tracking.fault == "OSError: no route to host"
    assert unsent(store, wanted) == list(wanted)
    wandb.fault = None
    with Tracking(store, wanted) as tracking:
        pass
    assert tracking.fault is None and unsent(store, wanted) == []


def test_wandb_that_is_not_installed_is_said_before_any_training(study, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"wandb is not installed; run pip install 'replay-jax\["):
        study.train(grid({RHO: [0.0]}), tmp_path, here=True, **LOGGED)
    assert not (tmp_path / "segments").exists() or not list((tmp_path / "segments").iterdir())


def test_points_of_losses_and_tasks_are_joined_by_step():
    record = {
        "curve": [{"step": 0, "target": 2.0, "generic": 3.0, "train_target": None},
                  {"step": 8, "target": 1.0, "generic": 2.0, "train_target": 1.5}],
        "tasks": {"quiz": {"curve": [{"step": 8, "accuracy": 0.5}]}},
    }  # fmt: skip
    last = {"loss/target": 1.0, "loss/generic": 2.0, "train_loss/target": 1.5, "accuracy/quiz": 0.5}
    assert history(record) == {0: {"loss/target": 2.0, "loss/generic": 3.0}, 8: last}
    # A part that is replaced whole, and then one of its values.
    assert nested({"a": {"b": 1, "c": 2}, "a.b": 3, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}
