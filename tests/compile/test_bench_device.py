"""The tool that measures a device, at sizes for this machine: its table and its place."""

import importlib.util
import subprocess

import pytest
from places import ROOT

from replay_jax.compile import peak


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("bench_device", ROOT / "tools/bench_device.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_part_is_measured_and_written_in_its_place(tool, tmp_path, monkeypatch, capsys):
    """The quickstart alone is not run: it has a test of its own (tests/commands)."""
    started = []
    monkeypatch.setitem(peak._SIDES, "cpu", (256,))
    monkeypatch.setattr(subprocess, "run", lambda command, **_: started.append(command))
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nwords\n")
    arguments = ["--tiny", f"--into={page}", f"--profiles={tmp_path / 'profiles'}"]
    tool.main(arguments)
    first = page.read_text()
    assert first.startswith("# Page\n\nwords\n\n## Measured: 8 x cpu\n")
    assert "run" in started[0] and "configs/smoke.py" in started[0]
    found = dict(line.strip("| ").split(" | ") for line in first.split("\n") if " | " in line)
    assert "tokens/s, MFU " in found.pop(next(what for what in found if "document masks" in what))
    assert "fusion " in found["longest there"] and "while" not in found["longest there"]
    assert found["the same without masks"].endswith(" of the time")
    assert any("times one after another" in said for said in found.values())
    assert found["4 updates alone, again, and from a saved prefix, float32"] == "the same bits"
    # Measured again, with a section behind: replaced in its place.
    page.write_text(first + "\n## Behind\n")
    tool.main([*arguments, "--only=quickstart"])
    again = page.read_text()
    assert again.count("## Measured: 8 x cpu") == 1 and "saved prefix" not in again
    assert again.startswith("# Page\n\nwords\n\n## Measured") and again.endswith("\n\n## Behind\n")
    assert capsys.readouterr().out.count("| what | found |") == 2


def test_unequal_bits_are_said_so(tool, monkeypatch, tmp_path):
    digests = iter("aab")
    monkeypatch.setattr(tool, "digest", lambda _: next(digests))
    assert [row.found for row in tool.identity(True, tmp_path)] == ["NOT the same bits"]


def test_an_unknown_part_is_refused(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(["--only=stpes"])
    assert "no part stpes; there are quickstart, steps, population, identity" in (
        capsys.readouterr().err
    )
