"""A state saved at once, where the product saves beside training."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from replay_jax.training.saving.checkpoint import Checkpointer


def save_state(path: epath.PathLike, state: Any, meta: Mapping[str, Any]) -> None:
    """Save a state and wait until it is complete."""
    with Checkpointer() as checkpointer:
        checkpointer.save(path, state, meta)
