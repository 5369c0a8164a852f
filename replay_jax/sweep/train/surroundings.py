"""The environment of this process as it trains, which its working directory must know or accept."""

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from replay_jax.data.sources.workers import available_cores
from replay_jax.errors import UserError
from replay_jax.sweep.store.environment import (
    Environment,
    compiler_flags,
    environment_digest,
    processor,
    refusal,
    software,
)
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.training.mesh.config import MeshConfig

# Settings of JAX that change numbers; each is part of the environment under its own name.
_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_threefry_partitionable",
)


class Surroundings:
    """The environments in which this process trains, one for every mesh that jobs ask for.

    `last` is the digest of the one that was entered last, "" before.
    """

    def __init__(self, store: WorkStore) -> None:
        self._store, self.last = store, ""
        self._entered: dict[tuple[MeshConfig, bool], str] = {}

    def enter(self, job: EdgeJob) -> str:
        """Write down what a job is trained in; returns the digest. All hosts must call alike.

        Raises:
            UserError: the working directory holds results of another environment, and the job does
                not say that this one is accepted.
        """
        key = (job.config.mesh, job.accept_environment)
        if key not in self._entered:
            self._entered[key] = self._enter(environment_here(job.config.mesh), *key[1:])
        self.last = self._entered[key]
        return self.last

    def _enter(self, here: Environment, accepted: bool) -> str:
        refused = None
        # A shared file system may not show all hosts the same: the first one looks.
        if jax.process_index() == 0:
            known = self._store.environments()
            refused = None if accepted else refusal(str(self._store.root), known.values(), here)
            if refused is None:
                self._store.write_environment(here)
        if multihost_utils.broadcast_one_to_all(np.int32(refused is not None)):
            raise UserError(refused or "process 0 refuses the environment of the working directory")
        return environment_digest(here)


def environment_here(mesh: MeshConfig) -> Environment:
    """The environment of this process; starts JAX.

    The number of hosts is not part of it: the same devices give the same bits on any number.
    """
    device = jax.devices()[0]
    machine = {
        "platform": device.platform,
        "platform version": device.client.platform_version.split("\n")[0],
        "device": device.device_kind,
        "devices": str(jax.device_count()),
        "mesh": f"replica {mesh.replica}, fsdp {mesh.fsdp}, tensor {mesh.tensor}",
        "compiler flags": compiler_flags(),
        **{name: str(getattr(jax.config, name)) for name in _SETTINGS},
    }
    if device.platform == "cpu":
        # Both decide which instructions add up in which order.
        machine |= {"processor": processor(), "threads": str(_threads())}
    return {"software": software(), "machine": machine}


def _threads() -> int:
    """Threads of XLA's pool on a CPU: NPROC, or as many as there are cores."""
    if "NPROC" in os.environ:
        return int(os.environ["NPROC"])
    return available_cores()
