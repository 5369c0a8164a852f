"""Adapters and frozen parts as configurations: what is refused, how much there is, what is kept."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL, mesh_of

from replay_jax.errors import UserError
from replay_jax.model.flops import flops_per_token
from replay_jax.model.lora import MATRICES, LoraConfig
from replay_jax.model.presets import preset
from replay_jax.model.trained import parameter_bytes, saved_bytes, trained_counts
from replay_jax.training.config import OptimizerKind
from replay_jax.training.step import abstract_state
from replay_jax.training.trainable import merged, split

LORA = LoraConfig(rank=4, alpha=8.0, matrices=MATRICES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": 0}, "model.lora.rank is 0"),
        ({"alpha": 0.0}, "model.lora.alpha is 0.0"),
        ({"matrices": ()}, "model.lora.matrices are none; name some of query, key, value, out"),
        ({"matrices": ("q_proj",)}, "are q_proj; name some of query, key"),
        ({"matrices": ("up", "up")}, "each once"),
    ],
)
def test_adapters_that_are_none_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(LORA, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"lora": dataclasses.replace(LORA, rank=17)},
            "larger than the key matrix of 32 x 16; .* 16",
        ),
        ({"lora": LORA, "frozen": ("embedding",)}, "leave model.frozen empty"),
        ({"frozen": ("query",)}, "is query; this model can freeze embedding and head"),
        ({"frozen": ("head",), "tied_embeddings": True}, "this model can freeze embedding\\."),
    ],
)
def test_a_model_refuses_what_its_matrices_cannot_have(changes, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(MODEL, **changes)


@pytest.mark.parametrize(
    ("changes", "compute_dtype"),
    [
        ({}, "bfloat16"),
        ({"lora": LORA}, "bfloat16"),
        ({"frozen": ("embedding",), "tied_embeddings": True}, "bfloat16"),
        ({"lora": LORA}, "float32"),
    ],
)
def test_numbers_and_bytes_are_those_of_the_state(changes, compute_dtype):
    """Counted from the configuration, without JAX, and from the arrays of a real state."""
    model = dataclasses.replace(MODEL, compute_dtype=compute_dtype, **changes)
    kind = OptimizerKind()
    state = abstract_state(model, mesh_of(1, 1, 1), kind)
    trained, _ = split(state.params, model)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(trained)]
    assert sum(sizes) == trained_counts(model).total
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(trained))

    def bytes_of(tree):
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    assert bytes_of(state.params) == parameter_bytes(model)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert bytes_of(moments) == kind.state_bytes(model)
    assert saved_bytes(model) == bytes_of(trained if model.lora else state.params)
    assert kind.training_bytes(model) == bytes_of((state.params, trained, moments))


def test_an_adapted_8b_model_leaves_most_of_an_80_gb_gpu_to_activations():
    model = dataclasses.replace(preset("8b"), lora=dataclasses.replace(LORA, rank=16))
    assert 15e9 < parameter_bytes(model) < 17e9
    assert (
        OptimizerKind().training_bytes(model) < 17e9 < OptimizerKind().training_bytes(preset("8b"))
    )
    assert trained_counts(model).total == 41_943_040  # 16 x 32 x 81,920


def test_a_frozen_matrix_costs_no_gradient_of_its_own():
    full, lora, frozen = (
        flops_per_token(model, 8, causal_half=False)
        for model in (
            MODEL,
            dataclasses.replace(MODEL, lora=LORA),
            dataclasses.replace(MODEL, frozen=("head",)),
        )
    )
    adapters = trained_counts(dataclasses.replace(MODEL, lora=LORA)).total
    assert lora.body == pytest.approx(full.body * 2 / 3 + 6 * adapters)
    assert lora.head == frozen.head == full.head * 2 / 3
    assert lora.attention == frozen.attention == full.attention
    assert frozen.body == full.body


def test_scanned_layers_are_merged_as_single_ones():
    model = dataclasses.replace(MODEL, num_layers=2, lora=LORA)
    random = np.random.default_rng(0)
    shapes = abstract_state(model, mesh_of(1, 1, 1)).params
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)
    layers = [params.pop(f"layer_{number}") for number in range(2)]
    stacked = jax.tree.map(lambda *each: np.stack(each), *layers)
    single = merged({**params, "layer_0": layers[0], "layer_1": layers[1]}, model)
    scanned = merged({**params, "layers": stacked}, dataclasses.replace(model, layer_loop="scan"))
    for number in range(2):
        found = jax.tree.map(lambda leaf, n=number: leaf[n], scanned["layers"])
        assert found.keys() == single[f"layer_{number}"].keys() and "out_lora_a" not in found
        for name, leaf in found.items():
            np.testing.assert_allclose(
                *(each["scale"] if isinstance(each, dict) else each
                  for each in (leaf, single[f"layer_{number}"][name])), rtol=1e-5, atol=1e-5,
            )  # fmt: skip
    a, b = layers[0]["out_lora_a"], layers[0]["out_lora_b"]
    added = 2.0 * np.einsum("hkr,rd->hkd", a, b)
    np.testing.assert_allclose(
        single["layer_0"]["out"], layers[0]["out"] + added, rtol=1e-4, atol=1e-4
    )
