"""Parameters in two trees, those that are trained and those that are frozen, and in one again.

`model.trained` says which are which. An optimizer, its moments and gradients know the first tree
alone. Where nothing is frozen it is the whole, and the second is empty.

Shape letters: X inputs, Y outputs, R rank, L layers (where they are scanned).
"""

from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.lora import DOWN, UP, is_adapter
from replay_jax.model.trained import base_dtype, is_trained, stored_dtype


def split(params: Any, model: ModelConfig) -> tuple[Any, Any]:
    """The trained and the frozen parameters, each in a tree like the whole."""
    flat = flatten_dict(params)
    parts: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})
    for path, leaf in flat.items():
        parts[not is_trained(path[-1], model)][path] = leaf
    return unflatten_dict(parts[0]), unflatten_dict(parts[1])


def joined(trained: Any, frozen: Any) -> Any:
    """The inverse of `split`."""
    return unflatten_dict({**flatten_dict(trained), **flatten_dict(frozen)})


def as_stored(params: Any, model: ModelConfig) -> Any:
    """Drawn parameters in the dtypes in which they are kept."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.astype(stored_dtype(path[-1].key, model)), params
    )


def as_base(like: Any, model: ModelConfig) -> Any:
    """What is kept of the model that training starts from, to compare with: abstract arrays.

    Placed as the parameters, in `base_dtype`: not a bit of what it computes differs.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: jax.ShapeDtypeStruct(
            leaf.shape, base_dtype(path[-1].key, model), sharding=leaf.sharding
        ),
        like,
    )


def of_training(state: Any, model: ModelConfig) -> Any:
    """What of a train state training makes: without the parameters that adapters are beside.

    Those are the pre-trained model's, which is read again in place of being saved again.
    """
    if model.lora is None:
        return state
    return state.replace(params=split(state.params, model)[0])


def merged(params: Any, model: ModelConfig) -> Any:
    """The parameters of the model without adapters that computes the same, on this host.

    Adapted matrices are W + (alpha / rank) A B in float32; all others stay as they are.
    """
    if model.lora is None:
        return params
    flat, found = flatten_dict(params), {}
    for path, leaf in flat.items():
        *place, name = path
        if is_adapter(name):
            continue
        found[path] = leaf
        if name in model.lora.matrices:
            lead = leaf.shape[:1] if place[0] == "layers" else ()
            down_LXR = np.asarray(flat[(*place, name + DOWN)]).reshape(*lead, -1, model.lora.rank)
            up_LRY = np.asarray(flat[(*place, name + UP)]).reshape(*lead, model.lora.rank, -1)
            added_LXY = model.lora.scale * (down_LXR @ up_LRY)
            found[path] = np.asarray(leaf).astype(np.float32) + added_LXY.reshape(leaf.shape)
    return unflatten_dict(found)
