"""Parameters from the safetensors of a pre-trained model, straight into their shardings.

Every device's part is read by itself from memory-mapped files, so no host holds a whole model,
and a part is in float32 from the moment it is read.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from replay_jax.hub.folder import Pretrained
from replay_jax.hub.layout import HubTensors, Index, hub_tensors
from replay_jax.hub.tensors import WeightReader, open_weights
from replay_jax.model.architecture import ModelConfig


def load_params(pretrained: Pretrained, like: Any, model: ModelConfig) -> Any:
    """The parameters of a pre-trained model.

    Args:
        pretrained: the model.
        like: a tree of `jax.ShapeDtypeStruct` with shardings: the `params` of
            `step.abstract_state`.
        model: what they are the parameters of.

    Raises:
        UserError: a tensor is missing, or of another shape or kind of number; or a file is damaged.
    """
    reader = open_weights(pretrained.name, Path(pretrained.folder))

    def load(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        tensors = hub_tensors(tuple(key.key for key in path), model)
        return _load(reader, tensors, leaf)

    return jax.tree_util.tree_map_with_path(load, like)


def _load(reader: WeightReader, tensors: HubTensors, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    shape = leaf.shape[1:] if tensors.is_stacked else leaf.shape
    layout = tensors.layout
    for name in tensors.names:
        reader.check(name, layout.hub_shape(shape))

    def part(name: str, index: Index) -> np.ndarray:
        read = reader.read(name, layout.hub_index(index, shape))
        return layout.from_hub(read, index, shape)

    def read(index: Index | None) -> np.ndarray:
        assert index is not None
        if not tensors.is_stacked:
            return part(tensors.names[0], index)
        return np.stack([part(name, index[1:]) for name in tensors.names[index[0]]])

    assert leaf.sharding is not None
    return jax.make_array_from_callback(leaf.shape, leaf.sharding, read)
