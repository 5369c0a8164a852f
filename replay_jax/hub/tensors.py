"""The tensors in the safetensors of a pre-trained model, by name, memory-mapped. Free of JAX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from replay_jax.errors import UserError
from replay_jax.hub.folder import weight_files
from replay_jax.hub.layout import Index

_DTYPES = ("F32", "BF16", "F16")
_BYTES_AT_ONCE = 2**26


def open_weights(name: str, folder: Path) -> "WeightReader":
    """Open the files of a model's folder; raises UserError for one that is damaged or stale."""
    files: dict[str, Any] = {}
    for path in weight_files(folder):
        try:
            file = safe_open(path, framework="np")
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is no whole safetensors file: {error}") from error
        for tensor in file.keys():
            if tensor in files:
                raise UserError(
                    f"{folder} has tensor {tensor} in {path.name} and in another file: "
                    "remove the files that are stale"
                )
            files[tensor] = file
    return WeightReader(name, files)


class WeightReader:
    """All tensors of a folder by name, whichever file each is in."""

    def __init__(self, name: str, files: Mapping[str, Any]) -> None:
        self._name, self._files = name, files

    def check(self, name: str, shape: Sequence[int]) -> None:
        """Refuse a tensor that is not what the model needs."""
        if name not in self._files:
            raise UserError(f"{self._name} has no tensor {name}, which the model needs")
        tensor = self._slice(name)
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

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, in float32; a few rows at a time, so that it is there once."""
        tensor = self._slice(name)
        rows, *others = (
            range(*cut.indices(n)) for cut, n in zip(index, tensor.get_shape(), strict=True)
        )
        found = np.empty([len(rows), *map(len, others)], np.float32)
        step = max(1, _BYTES_AT_ONCE // max(1, 4 * found[:1].size))
        try:
            for first in range(0, len(rows), step):
                last = min(first + step, len(rows))
                cut = (slice(rows[first], rows[last - 1] + 1), *index[1:])
                found[first:last] = tensor[cut]
        except SafetensorError as error:
            raise UserError(f"{name} of {self._name} cannot be read: {error}") from error
        return found

    def _slice(self, name: str) -> Any:
        try:
            return self._files[name].get_slice(name)
        except SafetensorError as error:
            raise UserError(f"{name} of {self._name} cannot be read: {error}") from error
