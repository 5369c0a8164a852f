"""Files for clusters and clouds: a shell reads them, our parser takes their commands."""

import os
import subprocess

import pytest
import yaml
from places import ROOT

from replay_jax.commands.arguments import parser

EXAMPLES = ROOT / "docs" / "examples"
SLURM = ("slurm.sbatch", "slurm_hosts.sbatch")
SKY = ("sky_tpu.yaml", "sky_gpu.yaml")
# What the shell of a job finds: our command says what it was given and ends as interrupted.
FOUND = """
replay-jax() { printf '%s\\n' "$@" > "$SAID"; return 130; }
srun() { "$@"; }
scontrol() { echo "$@" >> "$SAID.requeued"; }
source() { :; }
"""


def read(name):
    return yaml.safe_load((EXAMPLES / name).read_text())


def given(script, folder, **variables):
    """The arguments that a script gives to our command, and its exit code."""
    said = folder / "said"
    environment = {"PATH": os.environ["PATH"], "SAID": str(said), **variables}
    command = ["bash", "-c", FOUND + script]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.stderr == ""
    return said.read_text().splitlines(), done.returncode


def parsed(arguments):
    """As the command line reads them; anything unknown would be left over."""
    known, rest = parser().parse_known_args(arguments)
    assert rest == [] and known.command == "run"
    shipped = ROOT / "configs" / f"{known.recipe.removeprefix('configs/').removesuffix('.py')}.py"
    assert shipped.is_file()
    return known


@pytest.mark.parametrize("name", SLURM)
def test_slurm_is_told_what_a_job_needs_and_requeues_what_ran_out_of_time(name, tmp_path):
    path = EXAMPLES / name
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    options = dict(line[len("#SBATCH --"):].partition("=")[::2] for line in lines
                   if line.startswith("#SBATCH --"))  # fmt: skip
    # sbatch stops reading options at the first command.
    first = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])
    assert {"nodes", "gpus-per-node", "time", "requeue"} <= options.keys()
    # To the steps and not to the script alone ("B:"), in time for a save.
    assert options["signal"] == "TERM@120"
    arguments, code = given(path.read_text(), tmp_path, SLURM_JOB_ID="7")
    assert code == 130 and (tmp_path / "said.requeued").read_text() == "requeue 7\n"
    known = parsed(arguments)
    if name == "slurm.sbatch":
        assert known.executor is None and options["ntasks"] == "1"
    else:
        # JAX takes one GPU per task.
        assert known.executor == "hosts"
        assert options["ntasks-per-node"] == options["gpus-per-node"]


def test_gke_is_told_all_of_a_slice():
    job = read("gke_tpu.yaml")
    assert (job["apiVersion"], job["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert job["metadata"]["name"] and job["spec"]["failurePolicy"]["maxRestarts"] > 0
    (replicated,) = job["spec"]["replicatedJobs"]
    slices = replicated["template"]["spec"]
    pod = slices["template"]["spec"]
    (container,) = pod["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    columns, rows = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    assert slices["parallelism"] == slices["completions"] == int(columns) * int(rows) // chips
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] == "tpu-v5-lite-podslice"
    assert slices["backoffLimit"] == 0 and pod["restartPolicy"] == "Never"
    program, *arguments = container["command"]
    known = parsed(arguments)
    assert program == "replay-jax" and known.executor == "hosts"
    assert known.workdir.startswith("gs://")


@pytest.mark.parametrize("name", SKY)
def test_skypilot_is_told_what_to_rent_and_runs_a_command_of_ours(name, tmp_path):
    task = read(name)
    known_fields = {"name", "workdir", "num_nodes", "resources", "envs", "setup", "run"}
    assert task.keys() <= known_fields and task["workdir"] == "."
    assert task["resources"]["use_spot"] is True and task["resources"]["accelerators"]
    assert "--python 3.11" in task["setup"]
    for part in ("setup", "run"):
        assert subprocess.run(["bash", "-n"], input=task[part], text=True).returncode == 0
    arguments, code = given(
        task["run"], tmp_path, **task["envs"], SKYPILOT_NODE_IPS="10.0.0.2\n10.0.0.3",
        SKYPILOT_NUM_NODES="2", SKYPILOT_NODE_RANK="1",
    )  # fmt: skip
    known = parsed(arguments)
    assert code == 130 and known.executor == "hosts"
    # gcsfuse renames folders piece by piece, so the bucket is not mounted.
    assert known.workdir == task["envs"]["WORKDIR"] and known.workdir.startswith("gs://")
    if name == "sky_tpu.yaml":
        assert task["resources"]["accelerator_args"]["runtime_version"] == "v2-alpha-tpuv6e"
        assert "[tpu,gcs]" in task["setup"] and known.coordinator is None
    else:
        assert "[cuda,gcs]" in task["setup"]
        found = (known.coordinator, known.num_processes, known.process_id)
        assert found == ("10.0.0.2:8476", 2, 1)


def test_the_workflow_and_the_hooks_run_what_contributing_says():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    (job,) = jobs.values()
    assert job["steps"][-1] == {"run": ".ci/run"} and os.access(ROOT / ".ci" / "run", os.X_OK)
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    checks = (ROOT / ".ci" / "run").read_text()
    assert all(hook["entry"] in checks for hook in local["hooks"])
