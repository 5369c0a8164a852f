"""What `report` does where it cannot write, and commands where a terminal lacks a letter."""

import io
import json
import sys

import pytest
from etils import epath
from fake_records import FakeStudy, fake_records
from rich.console import Console

from replay_jax.commands import reporting
from replay_jax.commands.main import main
from replay_jax.errors import UserError

SMALL = FakeStudy(seeds=(0,), allocations=(1.0,), epochs=(16.0,), candidate_budgets=(4096,))
PLAN = {"steps_naive": 100, "steps_planned": 50}


@pytest.fixture
def workdir(tmp_path):
    """A working directory as `run` leaves it, of runs that nobody trained."""
    folder = epath.Path(tmp_path / "study")
    folder.mkdir()
    fill(folder, fake_records(SMALL))
    return folder


def fill(folder, records):
    for record in records:
        analysis = {"reference": {"protocol": "uniform"}, "tuned": [], "level": 0.9}
        record["config"]["analysis"] = analysis
        record["machine"] = {}
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "results.jsonl").write_text(lines)
    reporting.remember_recipe(folder, name="fake", question="How much?", plan=PLAN)


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(workdir, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reporting, "write_report", refuse)
    monkeypatch.setattr(reporting, "sweep_status", lambda _: {"runs": []})
    with pytest.raises(UserError, match="cannot be written into .*: Permission denied"):
        reporting.report_on(workdir, Console(quiet=True))


def test_a_terminal_that_lacks_a_letter_ends_no_command(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", screen)
    assert main(["recommend", "no such folder \u03c1"]) == 2
    screen.flush()
    assert b"no working directory 'no such folder ?'" in screen.buffer.getvalue()
