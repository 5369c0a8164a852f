"""AdamW as a pure function whose hyperparameters are arguments, so one program serves all runs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from replay_jax.training.config import OptimizerConfig

Hyper = dict[str, Any]
HYPER_NAMES = ("learning_rate", "weight_decay", "b1", "b2", "epsilon", "clip_norm")

# Levanter's default mask, by the last name of a parameter's path: norms and embeddings are not
# decayed; matrices are, the output head among them (a tied head is the embedding, so it is not).
_DECAYED = ("query", "key", "value", "out", "gate", "up", "down", "head")
_NOT_DECAYED = ("embedding", "scale")


def hyperparameters(config: OptimizerConfig, learning_rate: float) -> Hyper:
    """The float32 scalars that one update is given; `learning_rate` is that of the update."""
    return {
        "learning_rate": np.float32(learning_rate),
        "weight_decay": np.float32(config.weight_decay),
        "b1": np.float32(config.b1),
        "b2": np.float32(config.b2),
        "epsilon": np.float32(config.epsilon),
        "clip_norm": np.float32(config.clip_norm),
    }


def decay_mask(params: Any) -> Any:
    """A tree of bools like `params`: True where weight decay applies.

    Raises ValueError for a parameter whose last name is in neither table: a new kind of
    parameter must be given its rule.
    """
    return jax.tree_util.tree_map_with_path(_is_decayed, params)


def init_optimizer(params: Any) -> optax.ScaleByAdamState:
    """Fresh Adam state: both moments zero, no update counted."""
    # The state does not depend on the hyperparameters, which are arguments of the update.
    return optax.scale_by_adam().init(params)


def apply_gradients(
    params: Any, opt_state: optax.ScaleByAdamState, gradients: Any, *, hyper: Hyper
) -> tuple[Any, optax.ScaleByAdamState]:
    """One update: clip by global norm, Adam, add decay, times minus the learning rate.

    The order is Levanter's (arXiv 2603.04964 trains with it), so decay is neither clipped nor
    seen by the moments. All hyperparameters may be traced.
    """
    adam = optax.scale_by_adam(b1=hyper["b1"], b2=hyper["b2"], eps=hyper["epsilon"])
    updates = _clip_by_global_norm(gradients, hyper["clip_norm"])
    updates, opt_state = adam.update(updates, opt_state)
    updates = jax.tree.map(
        lambda update, param, decayed: (
            update + hyper["weight_decay"] * param if decayed else update
        ),
        updates,
        params,
        decay_mask(params),
    )
    scale = optax.scale_by_learning_rate(hyper["learning_rate"])
    updates, _ = scale.update(updates, optax.EmptyState())
    return optax.apply_updates(params, updates), opt_state


def _clip_by_global_norm(gradients: Any, clip_norm: jax.Array) -> Any:
    """Optax's clip as one factor for all arrays (1 where the norm is at most `clip_norm`).

    Optax divides every array by the norm, which XLA on CPU writes out and reads twice; a product
    it forms again within both moments (docs/performance.md).
    """
    factor = clip_norm / jnp.maximum(optax.tree.norm(gradients), clip_norm)
    return jax.tree.map(lambda gradient: gradient * factor, gradients)


def _is_decayed(path: tuple[Any, ...], _: Any) -> bool:
    name = str(getattr(path[-1], "key", path[-1]))
    if name in _DECAYED or name in _NOT_DECAYED:
        return name in _DECAYED
    raise ValueError(
        f"Parameter {jax.tree_util.keystr(path)} has no weight-decay rule; the names with one are "
        f"{', '.join(_DECAYED + _NOT_DECAYED)}."
    )
