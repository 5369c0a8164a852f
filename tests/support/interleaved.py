"""Two processes whose devices alternate in the mesh, as the hosts of a TPU slice do.

Three updates on the batches of `tiny_training`, each process giving its own rows, and a held-out
set of more bytes than 32 bits count.
"""

from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from tiny_training import MODEL, ROWS, SHAPE, batch, run

from replay_jax.training.evaluate import compile_evaluation, evaluate, place_held_out
from replay_jax.training.mesh.sharding import MESH_AXES, mesh_host_rows
from replay_jax.training.saving.checkpoint import restore_state
from replay_jax.training.step import abstract_state, compile_train_step

SEEDS = (0, 1, 2)
BYTES_OF_A_ROW = 2**30


def interleaved() -> Mesh:
    """[replica 2, fsdp 2, tensor 2] with devices 0, 4, 1, 5, ...: rows of a host are strided."""
    devices = np.array(jax.devices()).reshape(2, 2, 2).transpose(1, 0, 2)
    return Mesh(devices, MESH_AXES)


def train_and_measure(mesh: Mesh, start: Path) -> dict[str, list[float]]:
    """Losses and gradient norms of the updates, then nats, tokens and bytes of a held-out set.

    From the state of a checkpoint: no program is compiled to draw one.
    """
    rows = mesh_host_rows(mesh, ROWS)

    def part(seed: int) -> dict[str, np.ndarray]:
        return {name: array[rows] for name, array in batch(seed).items()}

    state, _ = restore_state(start, abstract_state(MODEL, mesh))
    state, seen = run(compile_train_step(SHAPE, mesh), state, mesh, SEEDS, batch_of=part)
    held_out = {**part(9), "label_bytes": np.full(len(rows), BYTES_OF_A_ROW, np.int64)}
    found = evaluate(
        compile_evaluation(SHAPE, mesh), state.params, place_held_out([held_out], mesh)
    )
    return {
        "rows": rows.tolist(),
        "updates": seen,
        "held_out": [found.nats, found.tokens, found.label_bytes],
    }
