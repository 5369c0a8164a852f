"""The wheel alone, in an empty folder: what is installed can run what it ships."""

import json
import os
import subprocess
import sys
import zipfile

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel holds, and an empty one to stand in."""
    pytest.importorskip("hatchling")
    built = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(built / "site")
    return built / "site", tmp_path_factory.mktemp("empty")


def outcome(installed, *arguments):
    site, here = installed
    command = [sys.executable, "-m", "replay_jax", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        command, cwd=here, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_every_config_of_the_clone_can_be_run_by_name(installed):
    listed = outcome(installed, "configs")
    assert str(installed[0] / "replay_jax" / "configs") in listed.replace("\n", "")
    for path in (ROOT / "configs").rglob("*.py"):
        name = path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        assert f"\n{name} " in listed


def test_a_config_that_builds_on_another_is_planned_by_name(installed):
    plan = json.loads(outcome(installed, "plan", "quickstart_controls", "--json"))
    assert len(plan["runs"]) == 153
    assert not list(installed[1].iterdir())  # a plan leaves nothing behind


def test_what_is_not_code_travels_too(installed):
    package = installed[0] / "replay_jax"
    for name in ("py.typed", "report/report.css", "published_points/flan.json"):
        assert (package / name).is_file(), name
