"""The TPU VM tool against a stand-in for gcloud that keeps a machine's state and records calls."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

TOOL = ROOT / "tools" / "tpu_vm.py"

# Answers as gcloud would; `story` lists what happens to the machine at each look at the log.
GCLOUD = """#!{python}
import json, pathlib, sys
home = pathlib.Path({home!r})
arguments = sys.argv[1:]
with (home / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
machine = json.loads((home / "machine.json").read_text())
verb = arguments[3]
code = 0
if verb == "create":
    if machine["state"] is not None:
        sys.exit("ERROR: already exists")
    machine["state"] = machine["birth"].pop(0)
elif verb == "delete":
    code = 1 if machine["state"] is None else 0
    machine["state"] = None
elif verb == "describe":
    if machine["state"] is None:
        sys.exit("ERROR: NOT_FOUND")
    print(machine["state"])
    if machine["growth"]:
        machine["state"] = machine["growth"].pop(0)
elif machine["state"] not in ("READY", "ACTIVE"):
    sys.exit("ERROR: cannot reach the worker")
elif verb == "ssh" and "--worker=0" in arguments:
    event, said = machine["story"].pop(0)
    if event:
        machine["state"] = event
    print(said)
(home / "machine.json").write_text(json.dumps(machine))
sys.exit(code)
"""


class Cloud:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.gcloud = home / "gcloud"
        self.gcloud.write_text(GCLOUD.format(python=sys.executable, home=str(home)))
        self.gcloud.chmod(0o755)

    def begin(self, *, state=None, birth=("READY",), growth=(), story=()):
        machine = {"state": state, "birth": birth, "growth": growth, "story": story}
        (self.home / "machine.json").write_text(json.dumps(machine))

    def tool(self, command, *options, arguments=()):
        rest = ["--", *arguments] if arguments else []
        machine = [command, "study", "--zone=us-central2-b", "--pause=0"]
        return subprocess.run(
            [sys.executable, TOOL, *machine, f"--gcloud={self.gcloud}", *options, *rest],
            capture_output=True, text=True,
        )  # fmt: skip

    def calls(self):
        path = self.home / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def verbs(self):
        """Calls by their verb, `ssh` with the worker it was for."""
        found = []
        for call in self.calls():
            worker = [a.split("=")[1] for a in call if a.startswith("--worker=")]
            found.append(" ".join([call[3], *worker]))
        return found


@pytest.fixture
def cloud(tmp_path):
    return Cloud(tmp_path)


START = ["ssh all", "scp all", "ssh all", "ssh all"]  # move the old copy, copy, install, start
ARGUMENTS = ("configs/a.py", "--workdir=gs://bucket/study", "--config.name=two words")


def test_run_does_everything_once_and_returns_the_code_of_the_run(cloud):
    cloud.begin(story=[[None, "step 1\nrunning"], [None, "step 9\n0"]])
    done = cloud.tool("run", "--spot", arguments=ARGUMENTS)
    assert done.returncode == 0, done.stderr
    created = ["describe", "describe", "create", "describe"]
    assert cloud.verbs() == [*created, *START, "ssh 0", "describe", "ssh 0", "delete"]
    create, start = cloud.calls()[2], cloud.calls()[7]
    assert create[:5] == ["compute", "tpus", "tpu-vm", "create", "study"]
    assert {"--spot", "--accelerator-type=v4-128", "--version=tpu-ubuntu2204-base"} <= set(create)
    assert "--config.name=two words" in start[-1]
    assert "step 1" in done.stdout


def test_the_command_that_starts_a_run_is_one_a_shell_can_run(cloud, tmp_path):
    cloud.begin(story=[[None, "0"]])
    cloud.tool("run", arguments=ARGUMENTS)
    script = cloud.calls()[7][-1].removeprefix("--command=")
    program = tmp_path / "replay-jax" / ".venv" / "bin" / "replay-jax"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nfor a in "$@"; do echo "[$a]"; done\nexit 3\n')
    program.chmod(0o755)
    subprocess.run(["bash", "-c", script.replace("nohup setsid", "")], cwd=tmp_path, check=True)
    folder = tmp_path / "replay-jax"
    for _ in range(200):
        if (folder / "run.exit").exists() and (folder / "run.exit").read_text():
            break
        subprocess.run(["sleep", "0.05"])
    assert (folder / "run.exit").read_text() == "3\n"
    said = (folder / "run.log").read_text().splitlines()
    assert said == ["[run]", "[--executor=hosts]", *(f"[{a}]" for a in ARGUMENTS)]


def test_a_preempted_run_is_started_again_on_a_new_machine(cloud):
    cloud.begin(birth=["READY", "READY"], story=[["PREEMPTED", "step 5\nrunning"], [None, "0"]])
    done = cloud.tool("run", arguments=ARGUMENTS)
    assert done.returncode == 0, done.stderr
    again = ["describe", "delete", "create", "describe", *START, "ssh 0"]
    first = ["describe", "describe", "create", "describe", *START, "ssh 0", "describe"]
    assert cloud.verbs() == [*first, *again, "delete"]
    assert "PREEMPTED" in done.stdout and "restart 1 of 100" in done.stdout


def test_a_worker_that_dies_of_a_preemption_is_no_failed_run(cloud):
    cloud.begin(birth=["READY", "READY"], story=[["PREEMPTED", "fatal\n134"], [None, "0"]])
    assert cloud.tool("run", arguments=ARGUMENTS).returncode == 0


def test_a_run_that_fails_is_not_started_again(cloud):
    cloud.begin(story=[[None, "out of memory\n1"]])
    assert cloud.tool("run", arguments=ARGUMENTS).returncode == 1
    assert cloud.verbs().count("create") == 1


def test_what_was_rented_is_given_back_however_it_ends(cloud):
    cloud.begin(story=[[None, "out of memory\n1"]])
    assert cloud.tool("run", arguments=ARGUMENTS).returncode == 1
    assert cloud.verbs()[-1] == "delete"
    cloud.begin(story=[[None, "0"]])
    before = len(cloud.calls())
    assert cloud.tool("run", "--keep", arguments=ARGUMENTS).returncode == 0
    assert "delete" not in cloud.verbs()[before:]


def test_a_machine_that_was_there_before_is_not_given_back(cloud):
    cloud.begin(state="READY", story=[[None, "0"]])
    assert cloud.tool("run", arguments=ARGUMENTS).returncode == 0
    assert "delete" not in cloud.verbs()


def test_the_image_need_not_have_a_python_that_is_new_enough(cloud):
    cloud.begin(story=[[None, "0"]])
    cloud.tool("run", arguments=ARGUMENTS)
    install = cloud.calls()[6][-1]
    assert "uv venv --quiet --python 3.11 .venv" in install and "python3 -m venv" not in install


def test_restarts_are_limited(cloud):
    cloud.begin(birth=["READY"] * 3, story=[["PREEMPTED", "running"]] * 3)
    done = cloud.tool("run", "--restarts=2", arguments=ARGUMENTS)
    assert done.returncode == 75
    assert cloud.verbs().count("create") == 3
    assert "lost 3 times" in done.stderr


def test_a_queued_resource_is_waited_for_and_deleted_by_force(cloud):
    cloud.begin(birth=["ACCEPTED"], growth=["PROVISIONING", "ACTIVE", "ACTIVE"])
    done = cloud.tool("create", "--queued", "--spot", "--accelerator_type=v5p-16")
    assert done.returncode == 0, done.stderr
    create = cloud.calls()[1]
    assert create[2:4] == ["queued-resources", "create"]
    assert {"--node-id=study", "--runtime-version=v2-alpha-tpuv5", "--spot"} <= set(create)
    assert "PROVISIONING" in done.stdout
    assert cloud.tool("delete", "--queued").returncode == 0
    assert {"--force", "--quiet"} <= set(cloud.calls()[-1])


def test_a_machine_that_never_gets_ready_is_reported(cloud):
    cloud.begin(birth=["FAILED"])
    done = cloud.tool("create", "--queued")
    assert done.returncode == 1
    assert "FAILED" in done.stderr


def test_create_keeps_a_machine_that_is_there(cloud):
    cloud.begin(state="READY")
    assert cloud.tool("create").returncode == 0
    assert cloud.verbs() == ["describe"]


def test_deleting_nothing_is_no_mistake(cloud):
    cloud.begin()
    assert cloud.tool("delete").returncode == 0


def test_an_error_of_gcloud_is_shown_with_its_command(cloud):
    cloud.begin(state="CREATING")
    done = cloud.tool("prepare")
    assert done.returncode == 1
    assert "ssh study" in done.stderr and "cannot reach the worker" in done.stderr


def test_a_dry_run_prints_every_command_and_calls_nothing(cloud):
    cloud.begin()
    done = cloud.tool("run", "--dry_run", "--spot", "--project=p", arguments=ARGUMENTS)
    assert done.returncode == 0, done.stderr
    assert cloud.calls() == []
    lines = [line for line in done.stdout.splitlines() if line.startswith("$ ")]
    verbs = [line.split()[5] for line in lines]
    assert verbs == ["create", "ssh", "scp", "ssh", "ssh", "ssh", "delete"]
    assert all("--project=p" in line for line in lines)


def test_missing_gcloud_and_unknown_types_are_one_sentence(cloud):
    cloud.begin()
    done = cloud.tool("create", "--gcloud=/nonexistent/gcloud")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    done = cloud.tool("create", "--accelerator_type=v9-4")
    assert done.returncode == 2
    assert "v9-4" in done.stderr and "--runtime_version" in done.stderr
