"""Where the hub keeps each parameter: every element at its place, read whole or in parts."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from tiny_training import MODEL

from replay_jax.hub.layout import Layout, hub_tensors
from replay_jax.model.architecture import ModelConfig
from replay_jax.training.step import init_state

FIVE = dataclasses.replace(MODEL, num_layers=5)
DIMS = {"D": 6, "F": 10, "H": 4, "G": 2, "K": 3, "V": 8}
# Our axes and the hub's, written out by hand from the Llama modules of transformers.
CASES = {
    ("embedding",): ("VD", ("V", "D"), "model.embed_tokens.weight"),
    ("head",): ("DV", ("V", "D"), "lm_head.weight"),
    ("final_norm", "scale"): ("D", ("D",), "model.norm.weight"),
    ("layer_3", "attention_norm", "scale"): ("D", ("D",), "model.layers.3.input_layernorm.weight"),
    ("layer_3", "query"): ("DHK", ("HK", "D"), "model.layers.3.self_attn.q_proj.weight"),
    ("layer_3", "key"): ("DGK", ("GK", "D"), "model.layers.3.self_attn.k_proj.weight"),
    ("layer_3", "value"): ("DGK", ("GK", "D"), "model.layers.3.self_attn.v_proj.weight"),
    ("layer_3", "out"): ("HKD", ("D", "HK"), "model.layers.3.self_attn.o_proj.weight"),
    ("layer_3", "mlp_norm", "scale"): (
        "D", ("D",), "model.layers.3.post_attention_layernorm.weight",
    ),
    ("layer_3", "gate"): ("DF", ("F", "D"), "model.layers.3.mlp.gate_proj.weight"),
    ("layer_3", "up"): ("DF", ("F", "D"), "model.layers.3.mlp.up_proj.weight"),
    ("layer_3", "down"): ("FD", ("D", "F"), "model.layers.3.mlp.down_proj.weight"),
}  # fmt: skip


def numbered(axes):
    """A parameter in which every element is different, and its shape."""
    shape = tuple(DIMS[axis] for axis in axes)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def by_hand(ours, axes, theirs):
    """The hub's tensor, one element at a time."""
    hub = np.empty(tuple(int(np.prod([DIMS[a] for a in group])) for group in theirs))
    for place in itertools.product(*(range(DIMS[axis]) for axis in axes)):
        at = dict(zip(axes, place, strict=True))
        index = []
        for group in theirs:
            number = 0
            for axis in group:
                number = number * DIMS[axis] + at[axis]
            index.append(number)
        hub[tuple(index)] = ours[place]
    return hub


@pytest.mark.parametrize("path", CASES, ids=".".join)
def test_every_element_is_where_the_hub_keeps_it(path):
    axes, theirs, name = CASES[path]
    tensors = hub_tensors(path, FIVE)
    assert (tensors.names, tensors.is_stacked) == ((name,), False)
    ours = numbered(axes)
    hub = by_hand(ours, axes, theirs)
    assert tensors.layout.hub_shape(ours.shape) == hub.shape
    np.testing.assert_array_equal(tensors.layout.to_hub(ours), hub)
    whole = (slice(None),) * ours.ndim
    assert hub[tensors.layout.hub_index(whole, ours.shape)].shape == hub.shape
    np.testing.assert_array_equal(tensors.layout.from_hub(hub, whole, ours.shape), ours)


@pytest.mark.parametrize("path", CASES, ids=".".join)
def test_a_part_is_read_as_the_part_of_the_whole(path):
    axes, theirs, _ = CASES[path]
    layout = hub_tensors(path, FIVE).layout
    ours = numbered(axes)
    hub = by_hand(ours, axes, theirs)
    halves = [
        [slice(None)] if axis == "K" else [slice(0, DIMS[axis] // 2), slice(DIMS[axis] // 2, None)]
        for axis in axes
    ]
    for index in itertools.product(*halves):
        part = hub[layout.hub_index(index, ours.shape)]
        np.testing.assert_array_equal(layout.from_hub(part, index, ours.shape), ours[index])


def test_a_cut_through_the_width_of_heads_is_refused():
    with pytest.raises(ValueError, match="axis 2 .* is cut"):
        Layout(((1, 2), (0,))).hub_index((slice(None), slice(None), slice(0, 1)), (6, 4, 3))


def test_stacked_layers_have_a_tensor_each():
    tensors = hub_tensors(("layers", "query"), dataclasses.replace(MODEL, num_layers=3))
    names = [f"model.layers.{number}.self_attn.q_proj.weight" for number in range(3)]
    assert (list(tensors.names), tensors.is_stacked) == (names, True)


def test_every_parameter_of_the_model_has_its_place():
    """A parameter that is added to the model must be added to the table."""
    tree = jax.eval_shape(lambda: init_state(MODEL, 0)).params
    found = set()
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        tensors = hub_tensors(tuple(key.key for key in keys), MODEL)
        assert len(tensors.layout.hub_shape(leaf.shape)) in (1, 2)
        found |= set(tensors.names)
    assert len(found) == 9 * MODEL.num_layers + 3
    assert isinstance(MODEL, ModelConfig) and not MODEL.tied_embeddings
