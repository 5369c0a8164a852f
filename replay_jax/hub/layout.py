"""How a checkpoint of the hub lays out the parameters of this decoder.

There every matrix is [out, in], and heads and their width are one axis; here matrices are
[in, out] and the axes are apart. Both rotate the pair (k, k + K/2), so no row is permuted.

Shape letters as in `model.decoder`: D embed, F mlp, H query heads, G key/value heads, K head width,
V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from replay_jax.model.architecture import ModelConfig

Index = tuple[slice, ...]


@dataclass(frozen=True)
class Layout:
    """Which of our axes each axis of the hub's tensor runs over, slowest first.

    ((1, 2), (0,)) is a matrix whose rows run over our axes 1 and 2 and whose columns over axis 0.
    """

    groups: tuple[tuple[int, ...], ...]

    def hub_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Shape of the hub's tensor for a parameter of `shape`."""
        return tuple(math.prod(shape[axis] for axis in group) for group in self.groups)

    def hub_index(self, index: Index, shape: Sequence[int]) -> Index:
        """What to read of the hub's tensor for a contiguous part of a parameter.

        Of axes that share one of the hub's, only the first may be cut (no mesh axis splits a
        head's width). Raises ValueError if another one is.
        """
        found = []
        for first, *others in self.groups:
            for axis in others:
                if index[axis].indices(shape[axis]) != (0, shape[axis], 1):
                    raise ValueError(f"axis {axis} of a parameter of shape {shape} is cut")
            start, stop, _ = index[first].indices(shape[first])
            width = math.prod(shape[axis] for axis in others)
            found.append(slice(start * width, stop * width))
        return tuple(found)

    def from_hub(self, part: np.ndarray, index: Index, shape: Sequence[int]) -> np.ndarray:
        """Our form of what `hub_index` reads: shaped as the part of the parameter."""
        order = [axis for group in self.groups for axis in group]
        sizes = [len(range(*index[axis].indices(shape[axis]))) for axis in order]
        return part.reshape(sizes).transpose(np.argsort(order))

    def to_hub(self, parameter: np.ndarray) -> np.ndarray:
        """The hub's form of a whole parameter."""
        order = [axis for group in self.groups for axis in group]
        return parameter.transpose(order).reshape(self.hub_shape(parameter.shape))


_PLAIN, _VECTOR = Layout(((0,), (1,))), Layout(((0,),))
_TURNED = Layout(((1,), (0,)))
_HEADS_OUT = Layout(((1, 2), (0,)))  # [D, H, K] from [H K, D]
_HEADS_IN = Layout(((2,), (0, 1)))  # [H, K, D] from [D, H K]
_BIAS = Layout(((0, 1),))  # [H, K] from [H K]

EMBEDDING = ("embedding",)
_OUTSIDE = {
    EMBEDDING: ("model.embed_tokens.weight", _PLAIN),
    ("final_norm", "scale"): ("model.norm.weight", _VECTOR),
    ("head",): ("lm_head.weight", _TURNED),
}
_INSIDE = {
    ("attention_norm", "scale"): ("input_layernorm.weight", _VECTOR),
    ("query",): ("self_attn.q_proj.weight", _HEADS_OUT),
    ("key",): ("self_attn.k_proj.weight", _HEADS_OUT),
    ("value",): ("self_attn.v_proj.weight", _HEADS_OUT),
    ("out",): ("self_attn.o_proj.weight", _HEADS_IN),
    ("query_bias",): ("self_attn.q_proj.bias", _BIAS),
    ("key_bias",): ("self_attn.k_proj.bias", _BIAS),
    ("value_bias",): ("self_attn.v_proj.bias", _BIAS),
    ("query_norm", "scale"): ("self_attn.q_norm.weight", _VECTOR),
    ("key_norm", "scale"): ("self_attn.k_norm.weight", _VECTOR),
    ("attention_post_norm", "scale"): ("post_attention_layernorm.weight", _VECTOR),
    ("mlp_norm", "scale"): ("pre_feedforward_layernorm.weight", _VECTOR),
    ("mlp_post_norm", "scale"): ("post_feedforward_layernorm.weight", _VECTOR),
    ("gate",): ("mlp.gate_proj.weight", _TURNED),
    ("up",): ("mlp.up_proj.weight", _TURNED),
    ("down",): ("mlp.down_proj.weight", _TURNED),
}
# Where a layer has the two norms of Llama, the second has another name.
_INSIDE_LLAMA = {**_INSIDE, ("mlp_norm", "scale"): ("post_attention_layernorm.weight", _VECTOR)}


@dataclass(frozen=True)
class HubTensors:
    """The hub's tensors that hold one parameter.

    Attributes:
        names: one, or one for each layer where the parameter holds all layers along its axis 0.
        layout: of each of them.
        is_stacked: whether axis 0 runs over layers.
    """

    names: tuple[str, ...]
    layout: Layout
    is_stacked: bool


# The embedding where it is kept as the head that it is as well.
TIED_HEAD = HubTensors(("lm_head.weight",), _PLAIN, False)


def hub_tensors(path: tuple[str, ...], model: ModelConfig) -> HubTensors:
    """Where the hub keeps a parameter, given its path in the tree, such as ("layer_0", "query")."""
    if path in _OUTSIDE:
        name, layout = _OUTSIDE[path]
        return HubTensors((name,), layout, False)
    layer, *rest = path
    inside = _INSIDE_LLAMA if model.block.norms == "pre" else _INSIDE
    name, layout = inside[tuple(rest)]
    is_stacked = layer == "layers"
    numbers = range(model.num_layers) if is_stacked else [int(layer.removeprefix("layer_"))]
    return HubTensors(
        tuple(f"model.layers.{number}.{name}" for number in numbers), layout, is_stacked
    )
