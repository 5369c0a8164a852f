"""`status` on a terminal: in order, and whole at any width; a sweep's state in one line."""

import io
import shutil
from types import SimpleNamespace

import pytest
from rich.console import Console

from replay_jax.sweep.drive.live import summary
from replay_jax.sweep.drive.status import render_status, sweep_status
from replay_jax.sweep.store.workdir import WorkStore

NAME = "seed=1 data_seed=1 target_sequences=16384 replay_fraction=0.875 target_epochs=32"


def shown(width):
    runs = [
        {"name": f"{NAME} number={loss}", "id": f"75408b95e455ae{number}f", "state": state,
         "steps": 320, "total_steps": 320, "loss": loss, "reason": reason}
        for number, (state, loss, reason) in enumerate([
            ("failed", None, "the loss is not a number at step 12"), ("done", 4.25, None),
            ("planned", None, None), ("done", 4.125, None), ("done", 4.5, None),
        ])
    ]  # fmt: skip
    found = {
        "runs": runs, "counts": {"done": 3, "running": 0, "failed": 1, "planned": 1},
        "coordinator": None, "seconds_left": None,
    }  # fmt: skip
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(render_status(found))
    return console.export_text()


def test_the_best_done_run_and_what_failed_stand_last():
    states = [line.split()[6:9] for line in shown(200).splitlines()[1:6]]
    assert [words[1] for words in states] == ["planned", "done", "done", "done", "failed"]
    losses = [line.split()[-1] for line in shown(200).splitlines()[2:5]]
    assert losses == ["4.5000", "4.2500", "4.1250"]


def test_nothing_is_cut_in_a_narrow_terminal():
    text = shown(60)
    assert "…" not in text and max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize(
    ("speed", "running", "words"),
    [(0.0, {}, "nothing under way"), (0.0, {3: None}, "compiling"), (1234.5, {3: None}, "1,234 "
      "tokens/s, 45 s left")],
)  # fmt: skip
def test_a_line_says_why_no_token_is_trained_on(speed, running, words):
    board = SimpleNamespace(
        tokens_per_second=speed, running=running, steps_done=5, steps_total=20,
        seconds_left=lambda: 45.0 if speed else None,
    )  # fmt: skip
    assert summary(board, ended=1, runs=4) == f"1 of 4 runs ended, 5 of 20 steps (25%), {words}"


def test_steps_of_a_run_that_is_not_done_are_those_of_its_recorded_spans(finished_sweep, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(finished_sweep, workdir)
    fact = max(WorkStore(workdir).runs(), key=lambda run: len(run["path"]))
    end = fact["path"][-1]["digest"]
    reached = WorkStore(workdir).segment(end).start.step
    (workdir / "results" / f"{fact['id']}.json").unlink()
    (workdir / "segments" / f"{end}.json").unlink()
    runs = {run["id"]: run for run in sweep_status(workdir)["runs"]}
    lost = runs.pop(fact["id"])
    assert (lost["state"], lost["steps"]) == ("planned", reached) and reached > 0
    assert {run["state"] for run in runs.values()} == {"done"}
