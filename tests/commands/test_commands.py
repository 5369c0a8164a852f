"""The commands as a user types them: the whole chain on real text.

`run` is a process of its own; the others are called in this one, which is spared their imports.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from fake_report import without_pictures
from places import ROOT

from replay_jax.commands.main import main
from replay_jax.library.naming import best_run

# A part of its generic prose is enough.
SMOKE = (str(ROOT / "configs/smoke.py"), "--config.data.sources.python_docs.max_documents=200")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished smoke sweep: its folder and what `run` printed."""
    folder = tmp_path_factory.mktemp("smoke")
    one_worker = "--config.execution.workers=1"
    result = subprocess.run(
        [sys.executable, "-m", "replay_jax", "run", *SMOKE, "--workdir=out", one_worker],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return folder, result.stdout


@pytest.fixture
def replay_jax(monkeypatch, capsys):
    """Call one command in a folder: its exit code, what it printed, and its complaints."""

    def call(*arguments: str, cwd: Path) -> tuple[int, str, str]:
        monkeypatch.chdir(cwd)
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_run_prints_its_workdir_first_and_leaves_everything(finished):
    folder, printed = finished
    assert printed.startswith("working directory: out\n")
    out = folder / "out"
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert len(records) == 10
    for record in records:
        assert set(record["losses"]) == {"target", "generic"}
        ledger = {entry["source"]: entry for entry in record["ledger"]["totals"]}
        target = ledger["c_headers"]
        assert target["sequences"] == 4 * target["unique"]
        assert target["unique"] * 64 == record["target_tokens"]
        assert sum(entry["sequences"] for entry in ledger.values()) == 48 * 16
    assert (out / "report.html").stat().st_size > 100_000
    assert list((out / "figures").glob("*.png"))


def test_the_log_says_how_fast_it_was_and_where_the_time_went(finished):
    folder, _ = finished
    logs = list((folder / "out" / "metrics").glob("*/metrics.jsonl"))
    assert logs
    for line in (line for log in logs for line in log.read_text().splitlines()):
        record = json.loads(line)
        assert 0 < record["mfu_causal"] < record["mfu"] < 2
        assert record["tokens_per_second_per_device"] == record["tokens_per_second"] > 0
        assert 0 < record["goodput"] <= 1
        assert record["data_wait_seconds"] >= 0 and record["compile_seconds"] > 0


def test_status_verify_and_recommend_agree(finished, replay_jax):
    folder, _ = finished
    _, status, _ = replay_jax("status", "out", "--json", cwd=folder)
    assert json.loads(status)["counts"]["done"] == 10
    code, verified, _ = replay_jax("verify", "out", cwd=folder)
    assert code == 0
    assert "10 runs checked, 0 differences" in verified
    advice = json.loads(replay_jax("recommend", "out", "--json", cwd=folder)[1])
    assert {"replay_fraction", "allocation", "multiplier", "generic_cost_nats", "verdict",
            "next_runs"} <= set(advice)  # fmt: skip
    # What is exported as "best" is a run of the schedule to use.
    records = [json.loads(x) for x in (folder / "out/results.jsonl").read_text().splitlines()]
    (best,) = [r for r in records if r["id"] == best_run(epath.Path(folder / "out"), None)]
    said = replay_jax("recommend", "out", cwd=folder)[1]
    assert f"is run {best['id']}: replay-jax export out {best['id']} FOLDER\n" in said
    seeds = ("seed", "data_seed")
    for key, value in advice["overrides"].items():
        assert key in seeds or best["overrides"][key] == value


def test_the_notebook_repeats_a_run_which_trains_nothing(finished, monkeypatch, capsys, replay_jax):
    """Cell by cell, as a kernel does, without one; it is the study that is trained here already."""
    folder, _ = finished
    without_pictures(monkeypatch)
    monkeypatch.chdir(folder)
    shutil.copytree("out", "runs/smoke")
    notebook = json.loads((ROOT / "docs/examples/first_study.ipynb").read_text())
    names: dict[str, object] = {}
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for source in code:
        exec(compile(source, "first_study.ipynb", "exec"), names)  # noqa: S102
    printed = capsys.readouterr().out
    assert "10 runs, " in printed and "10 runs are finished" in printed
    assert len(names["table"]["id"]) == 10 and len(code) == 5
    assert printed.count("\n- ") >= 1
    results = [folder / place / "results.jsonl" for place in ("out", "runs/smoke")]
    assert results[0].read_bytes() == results[1].read_bytes()
    _, plan, _ = replay_jax("plan", *SMOKE, "--workdir=runs/smoke", "--json", cwd=folder)
    assert json.loads(plan)["steps_remaining"] == 0


def test_overlap_judges_every_held_out_set_of_a_sweep(finished, replay_jax):
    code, found, complaint = replay_jax("overlap", *SMOKE, "--json", cwd=finished[0])
    assert code == 0, complaint
    pairs = [(each["judged"], each["training"]) for each in json.loads(found)]
    assert len(set(pairs)) == 4 and {name for _, name in pairs} == {"c_headers", "python_docs"}


def test_an_install_cell_takes_the_wheel_that_lies_there(monkeypatch, tmp_path):
    """And the extra of a machine that has the TPU's library; nothing where all is installed."""
    monkeypatch.chdir(tmp_path)
    asked: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command[1:]))
    for name in ("first_study", "analyse"):
        notebook = json.loads((ROOT / f"docs/examples/{name}.ipynb").read_text())
        cell = compile("".join(notebook["cells"][1]["source"]), name, "exec")
        with monkeypatch.context() as bare:
            exec(cell, {})  # noqa: S102
            assert asked == []
            bare.setattr("importlib.util.find_spec", lambda module: None)
            exec(cell, {})  # noqa: S102
            (tmp_path / "replay_jax-0.1.0-py3-none-any.whl").touch()
            bare.setattr("importlib.util.find_spec", lambda module: module == "libtpu" or None)
            exec(cell, {})  # noqa: S102
        installs = ["replay-jax", "./replay_jax-0.1.0-py3-none-any.whl[tpu]"]
        assert asked == [["-m", "pip", "install", "--quiet", package] for package in installs]
        asked.clear()
        (tmp_path / "replay_jax-0.1.0-py3-none-any.whl").unlink()


def test_a_report_lists_the_runs_that_are_missing(finished, replay_jax, tmp_path, monkeypatch):
    folder, _ = finished
    without_pictures(monkeypatch)
    out = shutil.copytree(folder / "out", tmp_path / "out")
    lost, *kept = (out / "results.jsonl").read_text().splitlines(keepends=True)
    (out / "results.jsonl").write_text("".join(kept))
    (out / "results" / f"{json.loads(lost)['id']}.json").unlink()
    code, _, complaint = replay_jax("report", "out", cwd=tmp_path)
    assert code == 0, complaint
    assert json.loads(lost)["name"] in (out / "report.html").read_text()


def test_the_readme_commands_are_commands_that_exist(replay_jax):
    text = (ROOT / "README.md").read_text()
    setup = re.findall(r"^    (python3 -m venv .*)$", text, re.MULTILINE)
    assert [line.split("&& ")[-1] for line in setup] == [
        "replay-jax run configs/quickstart.py --budget=3210steps",
        "pytest",
    ]
    for path in re.findall(r"\]\(((?!http)[^)#]+)", text):
        assert (ROOT / path).exists(), f"README links to {path}, which does not exist"
    planned = json.loads(replay_jax("plan", "configs/quickstart.py", "--json", cwd=ROOT)[1])
    assert planned["saving"] > 3
    assert {run["overrides"]["seed"] for run in planned["runs"]} >= {1, 2}


ALIGNED = [
    "--config.schedule.placement=aligned",
    "--config.schedule.aligned_replay_fraction=0.875",
]


@pytest.mark.parametrize(
    ("name", "placement", "runs", "share"),
    [("mid_training_replay", [], 15, 0.18), ("mid_training", ALIGNED, 60, 0.22)],
)
def test_the_paper_sweeps_are_planned_without_data(replay_jax, name, placement, runs, share):
    _, printed, _ = replay_jax("plan", f"paper/{name}", "--json", *placement, cwd=ROOT)
    planned = json.loads(printed)
    assert len(planned["runs"]) == runs
    assert planned["steps_naive"] == runs * 1024
    assert planned["steps_planned"] <= share * planned["steps_naive"]
    for run in planned["runs"]:
        totals = {entry["source"]: entry["sequences"] for entry in run["ledger"]["totals"]}
        target = run["overrides"]["data.target"]
        assert totals[target] == 32 * 1024
        assert sum(totals.values()) == 1024 * 1024


def test_a_finished_run_is_exported_and_started_from(finished, replay_jax, tmp_path):
    folder, _ = finished
    records = [json.loads(x) for x in (folder / "out/results.jsonl").read_text().splitlines()]
    model = tmp_path / "model"
    export = ("export", "out", records[0]["id"])
    code, printed, complaint = replay_jax(*export, str(model), "--dtype=float32", cwd=folder)
    assert code == 0, complaint
    assert printed == f"{model}: config.json, model.safetensors, replay_jax.json\n"
    kept = json.loads((model / "replay_jax.json").read_text())["run"]
    assert kept == records[0]
    # The folder gives the nats that the run gives that it was made of.
    np.save(tmp_path / "rows.npy", np.arange(24).reshape(3, 8))
    asked = (f"--tokens={tmp_path / 'rows.npy'}", "--json")
    code, of_run, complaint = replay_jax("evaluate", *export[1:], *asked, cwd=folder)
    assert code == 0, complaint
    of_folder = replay_jax("evaluate", str(model), *asked, cwd=folder)[1]
    assert json.loads(of_run) == json.loads(of_folder) and len(json.loads(of_run)["nats"]) == 3
    code, _, complaint = replay_jax(*export, str(model), cwd=folder)
    assert code == 2 and "exists already" in complaint
    code, _, complaint = replay_jax(*export, "gs://bucket/model", cwd=folder)
    assert code == 2 and "is not on a disk" in complaint
    start = f"--config.initial_weights={model}"
    code, planned, complaint = replay_jax("plan", *SMOKE, "--json", start, cwd=folder)
    assert code == 0, complaint
    ids = {run["id"] for run in json.loads(planned)["runs"]}
    assert len(ids) == 10 and not ids & {record["id"] for record in records}
    other = ("--workdir=other", start, "--config.model.mlp_dim=48")
    code, _, complaint = replay_jax("run", *SMOKE, *other, cwd=folder)
    assert code == 2
    assert "model.mlp_dim is 48 and" in complaint and "has 96" in complaint
