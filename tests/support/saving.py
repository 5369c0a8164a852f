"""A state saved at once, where the product saves beside training, and gone on with elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etils import epath
from fake_devices import flags
from tiny_training import MODEL, SHAPE, digest, mesh_of, run

from replay_jax.training.saving.checkpoint import Checkpointer, restore_state
from replay_jax.training.step import abstract_state, compile_train_step


def save_state(path: epath.PathLike, state: Any, meta: Mapping[str, Any]) -> None:
    """Save a state and wait until it is complete."""
    with Checkpointer() as checkpointer:
        checkpointer.save(path, state, meta)


def go_on(folder: Path, stop: int) -> None:
    """Be a new process, which trains a saved state to a step; its digest as a file beside it."""
    os.environ["XLA_FLAGS"] = flags(8)
    mesh = mesh_of(1, 1, 1)
    state, meta = restore_state(folder / "state", abstract_state(MODEL, mesh))
    state, _ = run(compile_train_step(SHAPE, mesh), state, mesh, range(meta["step"], stop))
    (folder / "digest").write_text(digest(state))
