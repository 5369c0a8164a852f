"""Parameters from the safetensors of a pre-trained model, straight into their shardings.

Every device's part is read by itself from memory-mapped files, so no host holds a whole model,
and a part is in float32 from the moment it is read.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from replay_jax.errors import UserError
from replay_jax.hub.folder import Pretrained, weight_files
from replay_jax.hub.layout import HubTensors, Index, hub_tensors

_DTYPES = ("F32", "BF16", "F16")


def load_params(pretrained: Pretrained, like: Any, *, num_layers: int) -> Any:
    """The parameters of a pre-trained model.

    Args:
        pretrained: the model.
        like: a tree of `jax.ShapeDtypeStruct` with shardings: the `params` of
            `step.abstract_state`.
        num_layers: of the model.

    Raises:
        UserError: a tensor is missing, or of another shape or kind of number; or a file is damaged.
    """
    reader = _Reader(pretrained)

    def load(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
        tensors = hub_tensors(tuple(key.key for key in path), num_layers)
        return _load(reader, tensors, leaf)

    try:
        return jax.tree_util.tree_map_with_path(load, like)
    except SafetensorError as error:
        raise UserError(f"the weights in {pretrained.folder} cannot be read: {error}") from error


class _Reader:
    """All tensors of a folder by name, whichever file each is in."""

    def __init__(self, pretrained: Pretrained) -> None:
        self._name = pretrained.name
        self._files: dict[str, Any] = {}
        for path in weight_files(Path(pretrained.folder)):
            try:
                file = safe_open(path, framework="np")
            except SafetensorError as error:
                raise UserError(f"{path} is no whole safetensors file: {error}") from error
            for tensor in file.keys():
                if tensor in self._files:
                    raise UserError(
                        f"{path.parent} has tensor {tensor} in {path.name} and in another file: "
                        "remove the files that are stale"
                    )
                self._files[tensor] = file

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Refuse a tensor that is not what the model needs."""
        if name not in self._files:
            raise UserError(f"{self._name} has no tensor {name}, which the model needs")
        tensor = self._files[name].get_slice(name)
        if tuple(tensor.get_shape()) != tuple(shape):
            raise UserError(
                f"{self._name} has {name} of shape {tuple(tensor.get_shape())}, and the model "
                f"needs {tuple(shape)}"
            )
        if tensor.get_dtype() not in _DTYPES:
            raise UserError(
                f"{self._name} has {name} as {tensor.get_dtype()}, and only "
                f"{', '.join(_DTYPES)} can be loaded: save it as one of these"
            )

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, in float32."""
        part = self._files[name].get_slice(name)[index]
        return np.asarray(part).astype(np.float32)


def _load(reader: _Reader, tensors: HubTensors, leaf: jax.ShapeDtypeStruct) -> jax.Array:
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
