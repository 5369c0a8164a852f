"""The FLOP formula: the published figure for the paper's model, and XLA's own count."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.model.flops import flops_per_token
from replay_jax.model.loss import weighted_loss
from replay_jax.model.presets import preset, shape_model


def test_figures_of_the_150m_model() -> None:
    full = flops_per_token(preset("150m"), 4096, causal_half=False)
    half = flops_per_token(preset("150m"), 4096, causal_half=True)
    assert full.total / 1e6 == pytest.approx(682, abs=0.5)
    assert half.total / 1e6 == pytest.approx(606, abs=0.5)
    assert half.attention * 2 == full.attention
    assert (half.body, half.head) == (full.body, full.head)
    # "At sequence 4096 the output head is about 60 % of the FLOPs."
    assert full.head / full.total == pytest.approx(0.58, abs=0.01)


def test_matches_what_xla_counts() -> None:
    """Lower the gradient with the full square and all logits; XLA adds the elementwise work."""
    model = dataclasses.replace(shape_model("256,512,2,4,2,2048"), attention="reference")
    transformer = build_transformer(model, platform="cpu")
    tokens = jax.ShapeDtypeStruct((2, 256), jnp.int32)
    weights = jax.ShapeDtypeStruct((2, 256), jnp.float32)
    params = jax.eval_shape(transformer.init, jax.random.key(0), tokens)["params"]

    def loss(params: dict, tokens: jax.Array, weights: jax.Array) -> jax.Array:
        params = nn.meta.unbox(params)
        hidden = transformer.apply({"params": params}, tokens)
        return weighted_loss(hidden, head_kernel(params), tokens, weights, chunk=256)[0]

    counted = jax.jit(jax.grad(loss)).lower(params, tokens, weights).cost_analysis()["flops"]
    formula = 512 * flops_per_token(model, 256, causal_half=False).total
    assert 1.0 < counted / formula < 1.06
