"""Parameters from the safetensors of a pre-trained model, straight into their shardings.

Every device's part is read by itself from memory-mapped files, one tensor after another, so no
host holds more than a tensor beside what its devices keep, and a part is in the dtype that it is
kept in from the moment it is read.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from replay_jax.hub.folder import Pretrained
from replay_jax.hub.layout import EMBEDDING, TIED_HEAD, HubTensors, Index, hub_tensors
from replay_jax.hub.tensors import WeightReader, open_weights
from replay_jax.model.architecture import ModelConfig
from replay_jax.progress import stage


def load_params(pretrained: Pretrained, like: Any, model: ModelConfig) -> Any:
    """The parameters of a pre-trained model.

    Args:
        pretrained: the model.
        like: a tree of `jax.ShapeDtypeStruct` with shardings: the `params` of
            `step.abstract_state`, without adapters.
        model: what they are the parameters of.

    Raises:
        UserError: a tensor is missing, or of another shape or kind of number; or a file is damaged.
    """
    reader = open_weights(pretrained.name, Path(pretrained.folder))
    sizes = [leaf.size for leaf in jax.tree.leaves(like)]

    def load(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        keys = tuple(key.key for key in path)
        tensors = hub_tensors(keys, model)
        if keys == EMBEDDING and model.tied_embeddings and tensors.names[0] not in reader:
            tensors = TIED_HEAD  # some keep the one matrix under the head's name
        loaded = _load(reader, tensors, leaf)
        advance(leaf.size)
        return loaded

    with stage("loading weights", sum(sizes)) as advance:
        return jax.tree_util.tree_map_with_path(load, like)


def _load(reader: WeightReader, tensors: HubTensors, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    shape = leaf.shape[1:] if tensors.is_stacked else leaf.shape
    layout = tensors.layout
    for name in tensors.names:
        reader.check(name, layout.hub_shape(shape))

    def whole(name: str, sharding: Sharding) -> jax.Array:
        def part(index: Index | None) -> np.ndarray:
            assert index is not None
            read = reader.read(name, layout.hub_index(index, shape))
            return layout.from_hub(read, index, shape).astype(leaf.dtype, copy=False)

        return jax.make_array_from_callback(shape, sharding, part)

    assert isinstance(leaf.sharding, NamedSharding)
    if not tensors.is_stacked:
        return whole(tensors.names[0], leaf.sharding)
    of_layer = NamedSharding(leaf.sharding.mesh, PartitionSpec(*leaf.sharding.spec[1:]))
    return _stacked((whole(name, of_layer) for name in tensors.names), leaf)


def _stacked(layers: Iterator[jax.Array], leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Layers behind each other, put into place on the devices: this host holds one at a time."""

    def put(stack: jax.Array, layer: jax.Array, number: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(stack, layer, number, 0)

    stack = jax.jit(lambda: jnp.zeros(leaf.shape, leaf.dtype), out_shardings=leaf.sharding)()
    put_in_place = jax.jit(put, donate_argnums=0, out_shardings=leaf.sharding)
    for number, layer in enumerate(layers):
        stack = jax.block_until_ready(put_in_place(stack, layer, number))
    return stack
