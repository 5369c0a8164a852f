"""What is measured is not trained: what is asked later of a finished run costs an evaluation."""

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from tiny_sweep import RHO, results_of

from replay_jax.commands.main import main
from replay_jax.sweep.drive.drawing import plan_lines
from replay_jax.sweep.drive.leftovers import say_ends
from replay_jax.sweep.results.verify import verify
from replay_jax.sweep.store.known import KeptEnds
from replay_jax.sweep.store.orphans import orphans
from replay_jax.sweep.store.stored_run import ADDED
from replay_jax.sweep.store.workdir import WorkStore

SWEEP = [{RHO: 0.0}, {RHO: 0.5}]
MORE = {"evaluation__sequences": 24, "evaluation__batch_size": 8}


def files(workdir: Path, folder: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (workdir / folder).iterdir()}


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """Two finished runs under the default: no states, the parameters of both ends."""
    workdir = tmp_path_factory.mktemp("finished")
    assert study.train(SWEEP, workdir, here=True).results == 2
    return workdir


@pytest.fixture(scope="module")
def measured(study, finished, tmp_path_factory):
    """The same, asked for more held-out sequences once they were finished."""
    workdir = shutil.copytree(finished, tmp_path_factory.mktemp("measured") / "copy")
    assert study.train(SWEEP, workdir, here=True, **MORE).results == 2
    return workdir


def test_the_parameters_at_the_ends_of_runs_are_kept_and_their_size_is_said(study, finished):
    plan, store = study.plan(SWEEP, finished), WorkStore(finished)
    ends = {run.chain[-1].tobytes().hex() for run in plan.runs}
    assert files(finished, "states") == {}
    assert set(files(finished, "ends")) == ends == set(plan.kept_ends)
    assert all(end in KeptEnds(store) for end in ends)
    values = plan.to_json()["ends"]
    # Parameters in float32, a third of a state.
    assert values == {"kept": 2, "disk_bytes": 2 * plan.state_bytes // 3}
    assert "parameters at 2 ends of runs stay for later measurements" in plan_lines(plan)[-1]
    console = Console(record=True, width=200)
    say_ends(plan, store, console)
    assert "the parameters at 2 ends of runs are kept, " in console.export_text()
    assert orphans(store) == []
    assert study.plan(SWEEP, None, execution__keep_ends=False).to_json()["ends"]["kept"] == 0


def test_a_held_out_size_that_is_added_later_costs_an_evaluation(study, finished, measured):
    plan = study.plan(SWEEP, finished, **MORE)
    assert (plan.steps_remaining, plan.only_measured) == (0, 2)
    assert "2 kept ends are only to be measured" in plan_lines(plan)[-2]
    assert files(measured, "segments") == files(finished, "segments")
    before, after = results_of(finished), results_of(measured)
    for name, record in after.items():
        assert record["loss_tokens"]["target"] > before[name]["loss_tokens"]["target"]
        assert record["losses"] != before[name]["losses"]
        # Points on the way were passed with other sets.
        assert [point["step"] for point in record["curve"]] == [12]
    assert verify(measured) == ([], 2)


def test_a_damaged_end_is_trained_again_to_the_same_bits(study, finished, measured, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    plan = study.plan(SWEEP[1:], workdir, **MORE)
    digest = plan.runs[0].chain[-1].tobytes().hex()
    for path in (workdir / "ends" / digest / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    study.train(SWEEP[1:], workdir, here=True, **MORE)
    assert [path.name for path in (workdir / "damaged").iterdir()] == [f"{digest}-0"]
    ((name, again),) = results_of(workdir).items()
    late = results_of(measured)[name]
    for part in ("losses", "loss_tokens", "evaluation", "ledger"):
        assert again[part] == late[part]
    # Trained under the larger size, it has the points on the way as well.
    assert [point["step"] for point in again["curve"]] == [5, 8, 10, 12]
    assert verify(workdir) == ([], 1)


def test_without_ends_the_run_is_trained_again(study, finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    (first, second) = sorted((workdir / "ends").iterdir())
    shutil.rmtree(first)
    (second / "commit_success.txt").unlink()
    plan = study.plan(SWEEP, workdir, **MORE)
    assert plan.only_measured == 0 and plan.steps_remaining == plan.steps_planned


def test_gc_knows_whose_ends_are_kept(finished, tmp_path, capsys):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    first, second = WorkStore(workdir).runs()
    del first["config"]["execution"]["keep_ends"]
    second["config"]["execution"]["keep_ends"] = True
    for fact in (first, second):
        (workdir / "runs" / f"{fact['id']}.json").write_text(json.dumps(fact))
    # Stored before there were ends, so none is its own.
    assert ADDED["execution"] == {"keep_ends": False}
    (orphan,) = orphans(WorkStore(workdir))
    assert orphan.path.name == first["path"][-1]["digest"]
    assert main(["gc", str(workdir)]) == 0
    assert files(workdir, "ends").keys() == {second["path"][-1]["digest"]}


def test_a_directory_of_before_there_were_ends_is_known(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    for folder in ("runs", "results"):
        for path in (workdir / folder).iterdir():
            fact = json.loads(path.read_text())
            fact.pop("checksum", None)  # nor were there any of these
            del fact["config"]["execution"]["keep_ends"]
            fact.pop("early_stopping", None)
            for part, names in (
                ("analysis", ("margin", "published", "early_stopping")),
                ("training", ("objective", "average_last", "dropout")),
                ("schedule", ("batch_sizes",)),
            ):
                for name in names:
                    del fact["config"][part][name]
            for source in fact["config"]["data"]["sources"].values():
                del source["train_fraction"]
            path.write_text(json.dumps(fact))
    store = WorkStore(workdir)
    lines = [json.dumps(store.result(run["id"])) + "\n" for run in store.runs()]
    (workdir / "results.jsonl").write_text("".join(lines))
    assert verify(workdir) == ([], 2)
