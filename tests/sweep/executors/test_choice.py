"""How many workers, and what each may see: every GPU has one worker at most."""

import dataclasses
import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from replay_jax.config.execution import ExecutionConfig
from replay_jax.errors import UserError
from replay_jax.sweep.executors.local import machine, workers
from replay_jax.sweep.executors.local.choice import WorkerChoice, choose_workers, training_bytes
from replay_jax.sweep.executors.local.machine import Devices, cuda_names, local_devices
from replay_jax.sweep.executors.local.settings import worker_environment
from replay_jax.sweep.executors.local.workers import LocalWorkers

GIB = 1 << 30
CPU = Devices("cpu")


def gpus(count, *, memory=70 * GIB):
    return Devices("gpu", tuple(str(number) for number in range(count)), memory)


def choose(*, workers=0, threads=0, on=CPU, parameters=10**6, needed=GIB, cores=8, memory=64 * GIB):
    execution = ExecutionConfig("local", workers, threads, False, (), None, 1, True)
    return choose_workers(
        execution, devices=on, parameters=parameters, needed=needed, cores=cores,
        memory_bytes=memory,
    )  # fmt: skip


def choice(**given):
    chosen = choose(**given)
    assert chosen.devices == ()
    return chosen.workers, chosen.threads


def test_small_models_get_a_core_each_and_large_ones_the_machine():
    assert choice() == (8, 1)
    assert choice(parameters=10**9) == (1, 8)
    assert choice(cores=1) == (1, 1)
    assert choice(memory=3 * GIB) == (2, 1)
    assert choice(workers=3) == (3, 1)
    assert choice(threads=4) == (2, 4)
    assert choice(on=Devices("tpu")) == (1, 0)


def test_small_models_get_a_gpu_each_and_large_ones_all():
    chosen = choose(on=gpus(4))
    assert (chosen.workers, chosen.threads, chosen.devices) == (4, 0, ("0", "1", "2", "3"))
    assert chosen.reason == "models of 1M parameters have a GPU each"
    # One GPU, a model that one does not hold comfortably or that is split, memory that is unknown.
    assert choice(on=gpus(1)) == (1, 0)
    assert choose(on=gpus(4), needed=35 * GIB).workers == 4
    assert choice(on=gpus(4), needed=35 * GIB + 1) == (1, 0)
    assert choice(on=gpus(4), needed=None) == (1, 0)
    assert choice(on=gpus(4, memory=0)) == (1, 0)
    # A host with little memory has fewer workers, not more GPUs for each.
    assert choose(on=gpus(4), memory=3 * GIB).devices == ("0", "1")


def test_a_number_of_workers_divides_the_gpus():
    assert choose(on=gpus(8), workers=8, needed=None).devices == tuple("01234567")
    assert choose(on=gpus(8), workers=2).devices == ("0,1,2,3", "4,5,6,7")
    assert choice(on=gpus(8), workers=1) == (1, 0)
    with pytest.raises(UserError, match="workers is 3 and does not divide the 8 .* of 1, 2, 4, 8,"):
        choose(on=gpus(8), workers=3)
    with pytest.raises(UserError, match="workers is 2 and does not divide the 1 GPUs"):
        choose(on=gpus(1), workers=2)
    with pytest.raises(UserError, match="workers is 4, but one process takes all chips of a tpu"):
        choose(on=Devices("tpu"), workers=4)


def test_gpus_are_called_as_the_user_calls_them():
    assert cuda_names(2, {}) == ("0", "1")
    assert cuda_names(2, {"CUDA_VISIBLE_DEVICES": "5, GPU-8a"}) == ("5", "GPU-8a")
    # CUDA ends its list at what does not exist.
    assert cuda_names(1, {"CUDA_VISIBLE_DEVICES": "5,-1,3"}) == ("5",)
    picked = {"JAX_CUDA_VISIBLE_DEVICES": "1,3"}
    assert cuda_names(2, picked) == ("1", "3")
    assert cuda_names(2, {**picked, "CUDA_VISIBLE_DEVICES": "7,6,5,4"}) == ("6", "4")
    assert cuda_names(3, {"CUDA_VISIBLE_DEVICES": "5,6"}) == ()


def test_the_machine_is_asked_by_another_process(monkeypatch):
    def answer(command, *, env, **_):
        assert env["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
        assert env["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.92"
        said = "a line of a plugin\n" + json.dumps(["gpu", [9 * GIB, 7 * GIB]]) + "\n"
        return subprocess.CompletedProcess(command, 0, said, "")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr(machine, "subprocess", SimpleNamespace(run=answer))
    assert local_devices() == Devices("gpu", ("2", "3"), 7 * GIB)


def test_the_question_is_one_that_jax_answers():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [machine.sys.executable, "-c", machine._QUESTION]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    platform, limits = json.loads(said.stdout)
    assert platform == "cpu" and len(limits) >= 1 and all(limit >= 0 for limit in limits)


def test_a_worker_sees_its_own_gpus_and_what_the_user_set_otherwise(tmp_path):
    chosen = choose(on=Devices("gpu", ("6", "4"), 70 * GIB))
    user = {"CUDA_VISIBLE_DEVICES": "7,6,5,4", "JAX_CUDA_VISIBLE_DEVICES": "1,3", "X": "y",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}  # fmt: skip
    found = [worker_environment(tmp_path, chosen, place, user) for place in (0, 1)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["6", "4"]
    assert {each["JAX_CUDA_VISIBLE_DEVICES"] for each in found} == {"all"}
    assert {(each["X"], each["XLA_PYTHON_CLIENT_MEM_FRACTION"]) for each in found} == {("y", "0.5")}
    whole = worker_environment(tmp_path, WorkerChoice(1, 0, ""), 0, {})
    assert "CUDA_VISIBLE_DEVICES" not in whole and "NPROC" not in whole
    assert whole["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.92"
    one = worker_environment(tmp_path, WorkerChoice(2, 1, ""), 0, {"NPROC": "9"})
    assert one["NPROC"] == "1" and "CUDA_VISIBLE_DEVICES" not in one


def test_a_worker_in_place_of_a_lost_one_gets_its_gpu(tmp_path, monkeypatch):
    started = []

    class Process:
        pid = 1

        def __init__(self, command, *, env, **_):
            started.append(env["CUDA_VISIBLE_DEVICES"])

        def wait(self):
            return -9

    monkeypatch.setattr(workers.subprocess, "Popen", Process)
    it = LocalWorkers(tmp_path, choose(on=gpus(3)), lanes=1, lock_fd=-1)
    first, second, third = (it._start() for _ in range(3))
    assert started == ["0", "1", "2"]
    it._bury(second)
    it._start()
    assert started[3:] == ["1"] and {worker.place for worker in it._workers} == {0, 1, 2}
    for worker in it._workers:
        worker.connection.close()


def test_what_training_takes_grows_with_all_that_it_holds(study):
    (config,) = (run.config for run in study.plan([{"seed": 0}], None).runs)
    least = training_bytes(config)
    assert least > 16 * study.plan([{"seed": 0}], None).runs[0].config.model.vocab_size
    more = {
        "model": {"num_layers": 2}, "training": {"batch_size": 64}, "execution": {"population": 4},
    }  # fmt: skip
    for part, changes in [*more.items(), ("training", {"average_last": 0.1})]:
        changed = dataclasses.replace(getattr(config, part), **changes)
        assert training_bytes(dataclasses.replace(config, **{part: changed})) > least
    split = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, fsdp=2))
    assert training_bytes(split) is None
