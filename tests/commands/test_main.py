"""The command line: every command explains itself, mistakes cost one sentence and exit code 2."""

import importlib.metadata
import json

import pytest
from places import ROOT

from replay_jax.commands.main import main

COMMANDS = (
    "configs", "run", "plan", "prepare", "compile", "status", "report", "recommend", "verify",
    "fit", "bench",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_gives_an_example_that_parses(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert f"example: replay-jax {command}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "configs/none.py"], "no config file 'configs/none.py'"),
        (["run", "smoky"], "no shipped config of that name; did you mean 'smoke'?"),
        (["plan", "configs/smoke.py", "--config.model.num_layer=3"], "'model.num_layers'"),
        (["plan", "configs/smoke.py", "--config.model.num_layers=x"], "must be int, not 'x'"),
        (["plan", "configs/smoke.py", "--jsn"], "unknown argument '--jsn'"),
        (["plan", "configs/smoke.py", "--config.data.store_dir=gs://b/s"], "is not on a disk"),
        (["run", "configs/smoke.py", "--coordinator=a:1"], "add --executor=hosts"),
        (["run", "configs/smoke.py", "--executor=hosts", "--num_processes=0"], "at least 1"),
        (["compile", "configs/smoke.py", "--topology=v9:4x4"], "'v9:4x4' is not known"),
        (["bench", "--model=tiny", "--seq_len=8", "--batch=0"], "at least 1, not 0 x 8"),
        (["status", "gs:/bucket/x"], "write gs://bucket/x"),
        (["status", "nowhere"], "no working directory 'nowhere'"),
        (["fit", "nowhere.json"], "cannot read nowhere.json"),
        (["bench", "--seq_len=8", "--batch=1"], "name what to time"),
        (["run", "configs/smoke.py", "--profile_steps=5"], "not of the form A:B"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.startswith("replay-jax: ")
    assert captured.err.count("\n") == 1


def test_fit_prints_the_published_ratios(capsys):
    points = ROOT / "experiments" / "published_points" / "flan.json"
    assert main(["fit", str(points), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) >= {"law", "equivalent_x", "ratios"}
    values = {label: ratio["value"] for label, ratio in found["ratios"].items()}
    assert any(v == pytest.approx(1.8688, rel=0.005) for v in values.values())
    assert any(v == pytest.approx(2.0578, rel=0.005) for v in values.values())


def test_the_version_is_the_installed_one(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    expected = importlib.metadata.version("replay-jax")
    assert capsys.readouterr().out == f"replay-jax {expected}\n"
