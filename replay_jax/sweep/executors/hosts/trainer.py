"""Training one edge on all hosts together: what every host of a run without Ray does alike."""

import os
import pickle
from collections.abc import Callable

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from replay_jax.sweep.executors.hosts.stop_gate import StopGate
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.sweep.train.edge import EdgeTrainer
from replay_jax.sweep.train.job import EdgeJob
from replay_jax.sweep.train.messages import Advanced, Ended, Failed
from replay_jax.sweep.train.outcome import failure, work
from replay_jax.training.config import Profile
from replay_jax.training.mesh.hosts import Cluster, connect

Assignment = tuple[int, EdgeJob, Profile | None]
# All hosts were there a moment ago.
_CONNECT_SECONDS = 300.0


class HostTrainer:
    """One host's part in all edges of a run; joins the JAX cluster when the first one begins."""

    def __init__(self, cluster: Cluster, gate: StopGate) -> None:
        self._cluster, self._gate = cluster, gate
        self._trainer: EdgeTrainer | None = None

    def do(
        self,
        assignment: Assignment | None,
        *,
        root: str,
        threads: int,
        tell: Callable[[Advanced], None],
    ) -> Ended | Failed:
        """Do a job together with the other hosts, who must call this as well.

        Args:
            assignment: the edge, its job and what to trace, on process 0; None elsewhere.
            root: the working directory.
            threads: of XLA's pool on CPU; 0 leaves it alone.
            tell: is given the progress on the way.
        """
        try:
            if self._trainer is None:
                self._trainer = self._start(root, threads)
            edge, job, profile = _shared(assignment)
        except Exception as error:
            return failure(-1, error, "")
        return work(
            self._trainer,
            edge,
            job,
            tell=tell,
            should_stop=self._gate.should_stop,
            profile=profile,
        )

    def _start(self, root: str, threads: int) -> EdgeTrainer:
        if threads:
            # XLA sizes its pools by it when the first device is asked for.
            os.environ["NPROC"] = str(threads)
        if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
            jax.config.update("jax_compilation_cache_dir", str(epath.Path(root) / "compilation"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        if self._cluster.num_processes > 1:
            connect(self._cluster, timeout=_CONNECT_SECONDS, preemption_service=False)
        return EdgeTrainer(WorkStore(root))


def _shared(assignment: Assignment | None) -> Assignment:
    """Process 0's assignment, on every host, by JAX's own way between them."""
    if jax.process_count() == 1:
        assert assignment is not None
        return assignment
    content = np.frombuffer(pickle.dumps(assignment), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int64(len(content))))
    # A program is compiled for every length, so lengths are few.
    padded = np.zeros(1 << (length - 1).bit_length(), np.uint8)
    if jax.process_index() == 0:
        padded[:length] = content
    everywhere = multihost_utils.broadcast_one_to_all(padded)
    shared: Assignment = pickle.loads(np.asarray(everywhere)[:length].tobytes())
    return shared
