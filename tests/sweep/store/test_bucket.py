"""Working directories in a bucket: every command takes gs://, whose slashes are kept.

No bucket can be reached from a test, so etils' own seam for storage systems gets one that is a
folder. Orbax's arrays do not pass through it: training itself is not tested here.
"""

import json
import shutil
from pathlib import Path

import pytest
from etils.epath import backend, gpath
from fake_report import without_pictures
from tiny_sweep import write_recipe

from replay_jax.commands.main import main
from replay_jax.errors import UserError
from replay_jax.sweep.store.places import place
from replay_jax.sweep.store.workdir import WorkStore


class FolderAsBucket(backend._OsPathBackend):
    """gs://bucket/… is a folder; as in a bucket, folders need not be made, nor files renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _here(self, path) -> Path:
        text = str(path)
        assert text.startswith("gs://bucket/"), text
        return self._root / text.removeprefix("gs://")

    def open(self, path, mode):
        assert "a" not in mode, "a bucket knows no appending"
        self._here(path).parent.mkdir(parents=True, exist_ok=True)
        return super().open(self._here(path), mode)

    def rename(self, path, dst):
        raise AssertionError("renaming in a bucket is copying: not atomic")

    replace = rename


for _name in ("exists", "isdir", "listdir", "mkdir", "makedirs", "rmtree", "remove", "stat"):

    def _redirected(self, path, *args, _name=_name, **kwargs):
        return getattr(backend._OsPathBackend, _name)(self, self._here(path), *args, **kwargs)

    setattr(FolderAsBucket, _name, _redirected)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that is gs://bucket for etils."""
    folder = tmp_path / "cloud" / "bucket"
    folder.mkdir(parents=True)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", FolderAsBucket(folder.parent))
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    return folder


def test_an_address_keeps_its_slashes_and_a_wrong_one_is_refused(bucket):
    assert str(WorkStore(place("gs://bucket/a/b")).root) == "gs://bucket/a/b"
    assert not Path(place("runs/x")).is_absolute()
    with pytest.raises(UserError, match="'gs:/bucket/a' lacks a slash: write gs://bucket/a"):
        place("gs:/bucket/a")
    with pytest.raises(UserError, match="'ftp://a/b' is neither a folder nor"):
        place("ftp://a/b")


def test_a_bucket_that_cannot_be_reached_is_one_sentence(monkeypatch, capsys):
    def refuse(path):
        raise ImportError("Please install gcsfs\nto go on")

    monkeypatch.setattr(gpath.PosixGPath, "exists", refuse)
    assert main(["status", "gs://bucket/a"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "Please install gcsfs: pip install 'replay-jax[gcs]'" in said


def test_a_sweep_in_a_bucket_is_planned_reported_and_verified(
    bucket, tmp_path, monkeypatch, capsys
):
    write_recipe(tmp_path)
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    plan = ["plan", "study.py", "--json", "--config.schedule.total_steps=8"]
    plan.append("--config.schedule.target_epochs=2.0")
    run = ["run", *plan[1:2], *plan[3:]]
    where = "--workdir=gs://bucket/study"
    assert main([*plan, where]) == 0
    assert json.loads(capsys.readouterr().out)["steps_remaining"] > 0
    # What is to be trained needs Orbax, and the local executor a disk: one sentence.
    assert main([*run, where]) == 2
    assert "gs://bucket/study is not on this machine: use --executor=hosts" in (
        capsys.readouterr().err
    )
    # Trained on a disk and moved to the bucket, all is found there.
    assert main([*run, "--workdir=here"]) == 0
    shutil.copytree(tmp_path / "here", bucket / "study", dirs_exist_ok=True)
    shutil.rmtree(bucket / "study" / "figures")
    (bucket / "study" / "report.html").unlink()
    capsys.readouterr()
    assert main([*plan, where]) == 0
    assert json.loads(capsys.readouterr().out)["steps_remaining"] == 0
    one = ["--executor=hosts", "--num_processes=1"]
    assert main([*run, where, *one]) == 0
    assert "report:  gs://bucket/study/report.html" in capsys.readouterr().out
    assert (bucket / "study" / "report.html").stat().st_size > 100_000
    assert list((bucket / "study" / "figures").glob("*.png"))
    assert len((bucket / "study" / "sessions.jsonl").read_text().splitlines()) == 2
    for command in ("status", "verify", "recommend", "report"):
        assert main([command, "gs://bucket/study"]) == 0, capsys.readouterr().err
    assert "2 runs checked, 0 differences" in capsys.readouterr().out
    assert not list(tmp_path.glob("gs:*"))
