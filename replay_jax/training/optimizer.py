"""Optimizers as pure functions whose hyperparameters are arguments: one program for all runs."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import MuonDimensionNumbers, muon

from replay_jax.errors import UserError
from replay_jax.model.lora import is_adapter
from replay_jax.training.config import ADAMW, OptimizerConfig, OptimizerKind

Hyper = dict[str, Any]
HYPER_NAMES = ("learning_rate", "weight_decay", "b1", "b2", "epsilon", "clip_norm")

# Levanter's default mask, by the last name of a parameter's path: norms, biases and embeddings are
# not decayed; matrices are, the output head among them (a tied one is the embedding, so it is not),
# and those of adapters.
_DECAYED = ("query", "key", "value", "out", "gate", "up", "down", "head")
_NOT_DECAYED = ("embedding", "scale", "query_bias", "key_bias", "value_bias")
# Input and output axes, from the last one, of the matrices that Muon makes orthogonal; an axis of
# layers before them stays apart. Head and embedding are Adam's, as its authors have it.
_TO_HEADS, _TO_WIDTH = MuonDimensionNumbers((-3,), (-2, -1)), MuonDimensionNumbers((-2,), (-1,))
_MATRICES = {
    **dict.fromkeys(("query", "key", "value"), _TO_HEADS),
    **dict.fromkeys(("gate", "up", "down"), _TO_WIDTH),
    "out": MuonDimensionNumbers((-3, -2), (-1,)),
}


def hyperparameters(config: OptimizerConfig, learning_rate: float) -> Hyper:
    """The float32 scalars that one update is given; `learning_rate` is that of the update."""
    values = {"learning_rate": learning_rate, **vars(config)}
    return {name: np.float32(values[name]) for name in HYPER_NAMES}


def decay_mask(params: Any) -> Any:
    """A tree of bools like `params`: True where weight decay applies.

    Raises ValueError for a parameter whose last name is in neither table: a new kind of
    parameter must be given its rule.
    """
    return jax.tree_util.tree_map_with_path(_is_decayed, params)


def init_optimizer(params: Any, kind: OptimizerKind = ADAMW) -> Any:
    """The optimizer's fresh state: moments of zero, no update counted."""
    # The state does not depend on the hyperparameters, which are arguments of the update.
    return transformation(kind, dict.fromkeys(HYPER_NAMES, 0.5)).init(params)


def apply_gradients(
    params: Any,
    opt_state: Any,
    gradients: Any,
    *,
    hyper: Hyper,
    kind: OptimizerKind = ADAMW,
) -> tuple[Any, Any]:
    """One update: clip by global norm, the rule's direction, add decay, times minus the rate.

    The order is Levanter's (arXiv 2603.04964 trains with it), so decay is neither clipped nor
    seen by the moments. A rule of the user's own is all that follows the clip. All hyperparameters
    may be traced.
    """
    updates = _clip_by_global_norm(gradients, hyper["clip_norm"])
    updates, opt_state = transformation(kind, hyper).update(updates, opt_state, params)
    if kind.is_own:
        return optax.apply_updates(params, updates), opt_state
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


def transformation(kind: OptimizerKind, hyper: Hyper) -> optax.GradientTransformation:
    """The optax transformation of a kind: clipped gradients to directions, or to whole updates.

    `module:function` is called with a schedule that gives the learning rate of the update at hand,
    whatever its count. Raises UserError if it cannot be found or returns something else.
    """
    b1, b2 = hyper["b1"], hyper["b2"]
    if kind.is_own:
        made = _own(kind.name)(lambda _: hyper["learning_rate"])
        if not isinstance(made, optax.GradientTransformation):
            raise UserError(f"optimizer.name '{kind.name}' returns {made!r}, no transformation.")
    elif kind.name == "muon":
        # A rate of -1 leaves the direction; at AdamW's usual size (.2, arXiv 2502.16982), so that
        # a schedule made for AdamW serves.
        made = muon(
            -1.0, beta=b1, adam_b1=b1, adam_b2=b2, eps=hyper["epsilon"], consistent_rms=0.2,
            muon_weight_dimension_numbers=lambda params: jax.tree_util.tree_map_with_path(
                lambda path, _: _MATRICES.get(_name(path)), params  # None: what Adam trains
            ),
        )  # fmt: skip
    elif kind.name == "lion":
        made = optax.scale_by_lion(b1, b2)
    elif kind.name == "adafactor":
        made = optax.chain(
            optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms(),
        )  # fmt: skip
    else:
        made = optax.scale_by_adam(b1=b1, b2=b2, eps=hyper["epsilon"])
    return made if kind.moments_dtype == "float32" else _kept_in(kind.moments_dtype, made)


def state_like_parameters(state: Any, params: Any, of_params: Any, otherwise: Any) -> Any:
    """A tree like an optimizer's `state`: of a parameter's moment what `of_params` has of it.

    A moment is what has a parameter's name, at the end of its own, and its shape; all else
    (counters, factored moments) gets `otherwise`.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    known = {
        path: (leaf.shape, found)
        for (path, leaf), found in zip(leaves, jax.tree.leaves(of_params), strict=True)
    }

    def pick(path: tuple[Any, ...], leaf: Any) -> Any:
        ends = (known.get(path[start:]) for start in range(len(path)))
        return next(
            (found for shape, found in filter(None, ends) if shape == leaf.shape), otherwise
        )

    return jax.tree_util.tree_map_with_path(pick, state)


def _own(name: str) -> Callable[[Callable[[Any], Any]], Any]:
    module, _, function = name.partition(":")
    try:
        found: Callable[[Callable[[Any], Any]], Any] = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"optimizer.name '{name}' cannot be found: {error}.") from error
    return found


def _kept_in(dtype: str, made: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same, computed in float32, with whatever it keeps of a parameter rounded to `dtype`."""

    def init(params: Any) -> Any:
        return _cast(made.init(params), params, jnp.float32, dtype)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, state = made.update(updates, _cast(state, params, dtype, jnp.float32), params)
        return updates, _cast(state, params, jnp.float32, dtype)

    return optax.GradientTransformation(init, update)


def _cast(state: Any, params: Any, of: Any, to: Any) -> Any:
    names = {_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x.astype(to) if _name(path) in names and x.dtype == of else x, state
    )


def _clip_by_global_norm(gradients: Any, clip_norm: jax.Array) -> Any:
    """Optax's clip as one factor for all arrays (1 where the norm is at most `clip_norm`).

    Optax divides every array by the norm, which XLA on CPU writes out and reads twice; a product
    it forms again within both moments (docs/performance.md).
    """
    factor = clip_norm / jnp.maximum(optax.tree.norm(gradients), clip_norm)
    return jax.tree.map(lambda gradient: gradient * factor, gradients)


def _is_decayed(path: tuple[Any, ...], _: Any) -> bool:
    name = _name(path)
    if name in _DECAYED or name in _NOT_DECAYED or is_adapter(name):
        return name not in _NOT_DECAYED
    raise ValueError(
        f"Parameter {jax.tree_util.keystr(path)} has no weight-decay rule; the names with one are "
        f"{', '.join(_DECAYED + _NOT_DECAYED)}."
    )


def _name(path: tuple[Any, ...]) -> str:
    return str(getattr(path[-1], "key", path[-1]))
