"""The command line: every command explains itself, mistakes cost one sentence and exit code 2."""

import importlib.metadata
import json
import subprocess
import sys

import pytest
from places import ROOT

from replay_jax.commands.main import main

COMMANDS = (
    "configs", "doctor", "run", "plan", "prepare", "compile", "status", "report", "recommend",
    "verify", "fit", "bench", "turns", "score",
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
        (["run", "xyzzy"], "of that name; `replay-jax configs` lists them\n"),
        (["plan", "configs/smoke"], "of that name; did you mean the file 'configs/smoke.py'?"),
        (["plan", "configs/smoke.py", "--config.model.num_layer=3"], "'model.num_layers'"),
        (["plan", "configs/smoke.py", "--config.model.num_layers=x"], "must be int, not 'x'"),
        (["plan", "configs/smoke.py", "--jsn"], "unknown argument '--jsn'"),
        (["plan", "configs/smoke.py", "--config.data.store_dir=gs:/b"], "nor a place in a bucket"),
        (["run", "configs/smoke.py", "--coordinator=a:1"], "add --executor=hosts"),
        (["run", "configs/smoke.py", "--executor=hosts", "--num_processes=0"], "at least 1"),
        (["run", "configs/smoke.py", "--budget=2"], "no time (90m, 2h), no FLOPs"),
        (["run", "configs/smoke.py", "--until=now"], "write 'interval < 1.3x'"),
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


def test_fit_of_json_that_nests_without_end_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "points.json"
    path.write_text("[" * 100_000)
    assert main(["fit", str(path)]) == 2
    captured = capsys.readouterr()
    assert "points.json is not JSON" in captured.err and captured.err.count("\n") == 1


def test_fit_of_many_points_gives_a_sign_of_life(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for count, law in ((29, None), (30, None), (30, "nothing")):
        points = {"reference": {"x": [*range(1, count)] + ["x"], "loss": [1.0] * count}}
        (tmp_path / "points.json").write_text(json.dumps({**points, "law": law}))
        # What is asked for is refused: only what is said before is looked at.
        assert main(["fit", "~/points.json"]) == 2
        said = capsys.readouterr().err
        assert ("for 30 reference points" in said) == (count == 30 and law is None)


def test_closed_streams_get_a_place():
    """Else the next file that is opened is standard input, or takes what is printed."""
    script = """
import os
for number in (0, 1, 2):
    os.close(number)
from replay_jax.commands.main import main
code = main(["fit", "nowhere.json"])
places = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
os._exit(0 if code == 2 and places == ["/dev/null"] * 3 else 1)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=300).returncode == 0


def test_python_without_docstrings_is_started_again_with_them(monkeypatch):
    """Altair cannot be imported without its own."""
    script = """
import os, sys
from replay_jax.commands import main
os.execv = lambda program, arguments: print(os.environ["PYTHONOPTIMIZE"], *arguments[1:])
sys.argv = ["replay-jax", "fit", "nowhere.json"]
sys.exit(main.main())
"""
    for flag, printed in (("-OO", "1 -P -m replay_jax fit nowhere.json\n"), ("-O", "")):
        done = subprocess.run(
            [sys.executable, flag, "-c", script], capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stdout) == (2, printed), done.stderr
