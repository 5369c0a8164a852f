"""Working directories in a bucket: every command takes gs://, whose slashes are kept.

No bucket can be reached from a test: one is made of a folder. Orbax's arrays do not pass through
it, so training itself is not tested here.
"""

import json
import shutil
from pathlib import Path

import pytest
from etils.epath import gpath
from fake_report import without_pictures
from folder_bucket import FolderAsBucket, folder_as_bucket
from in_process import in_this_process
from tiny_sweep import write_recipe

from replay_jax.commands.main import main
from replay_jax.errors import UserError
from replay_jax.sweep.drive import published as published_module
from replay_jax.sweep.drive.published import Published
from replay_jax.sweep.store.known import done
from replay_jax.sweep.store.places import place
from replay_jax.sweep.store.workdir import WorkStore

RESULT = {
    "name": "a run", "overrides": {}, "config": {}, "environments": [],
    "losses": {"target": 3.0, "generic": 4.0},
}  # fmt: skip


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that is gs://bucket."""
    return folder_as_bucket(tmp_path / "cloud", monkeypatch)


def test_an_address_keeps_its_slashes_and_a_wrong_one_is_refused(bucket):
    assert str(WorkStore(place("gs://bucket/a/b")).root) == "gs://bucket/a/b"
    assert not Path(place("runs/x")).is_absolute()
    with pytest.raises(UserError, match="'gs:/bucket/a' lacks a slash: write gs://bucket/a"):
        place("gs:/bucket/a")
    with pytest.raises(UserError, match="'ftp://a/b' is neither a folder nor"):
        place("ftp://a/b")


@pytest.mark.parametrize(
    ("scheme", "package"), [("gs", "'replay-jax[gcs]'"), ("s3", "s3fs"), ("az", "adlfs")]
)
def test_a_bucket_that_cannot_be_reached_is_one_sentence(scheme, package, monkeypatch, capsys):
    def refuse(path):
        raise ImportError("Please install what opens it\nto go on")

    monkeypatch.setattr(gpath.PosixGPath, "exists", refuse)
    assert main(["status", f"{scheme}://bucket/a"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(f"Please install what opens it: pip install {package}\n")


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
    with in_this_process():
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
    assert (bucket / "study" / "report.html").read_text().rstrip().endswith("</html>")
    assert list((bucket / "study" / "figures").glob("*.png"))
    assert len((bucket / "study" / "sessions.jsonl").read_text().splitlines()) == 2
    for command in ("status", "verify", "recommend", "report"):
        assert main([command, "gs://bucket/study"]) == 0, capsys.readouterr().err
    assert "2 runs checked, 0 differences" in capsys.readouterr().out
    assert not list(tmp_path.glob("gs:*"))


def test_what_is_finished_is_listed_once_and_read_once(bucket, monkeypatch):
    """Of 40 finished runs, 40 records are read for results.jsonl and nothing else is opened."""
    store = WorkStore(place("gs://bucket/w"))
    ids = [f"{number:016x}" for number in range(40)]
    for id in ids:
        store.write_result(id, {**RESULT, "id": id})
        store.end_path(id).mkdir(parents=True)
    opened = []
    original = FolderAsBucket.open

    def counted(self, path, mode):
        opened.append(path)
        return original(self, path, mode)

    monkeypatch.setattr(FolderAsBucket, "open", counted)
    assert done(store).results == set(ids) and not opened
    published = Published(store, ids)
    assert len(published) == len(opened) == 40
    published.write()
    lines = (bucket / "w" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids


def test_results_are_not_written_again_for_every_run_that_ends(bucket, monkeypatch):
    """Whole after each write, which grow fewer; in the order of the sweep, not of their ends."""
    store, ids = WorkStore(place("gs://bucket/w")), [str(number) for number in range(400)]
    monkeypatch.setattr(published_module, "_SECONDS", 1e9)
    published, sizes = Published(store, ids), []
    original = Published.write
    monkeypatch.setattr(Published, "write", lambda self: sizes.append(len(self)) or original(self))
    for id in reversed(ids):
        store.write_result(id, {**RESULT, "id": id})
        published.add(id)
        published.write_if_due()
        lines = (bucket / "w" / "results.jsonl").read_text().split("\n")
        assert lines.pop() == "" and len(lines) * 1.1 >= len(published)
        assert [int(json.loads(line)["id"]) for line in lines[:2]] == sorted(
            int(json.loads(line)["id"]) for line in lines[:2]
        )
    # 400 records written 400 times were 80,200.
    assert len(sizes) < 60 and sum(sizes) < 5_000
