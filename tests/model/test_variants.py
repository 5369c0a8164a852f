"""What families of open weights do otherwise: layers of several kinds, counts, parts by hand.

That each family computes what transformers computes is in tests/hub/test_family_peers.py.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from replay_jax.model.architecture import ModelConfig, RopeConfig, Variant, parameter_counts
from replay_jax.model.decoder import RMSNorm, build_transformer
from replay_jax.model.flops import flops_per_token
from replay_jax.model.layers import geglu
from replay_jax.training.optimizer import decay_mask

LENGTH = 8
# One layer with a window and its own rotary embedding, one without either; what each family adds
# comes on top.
MIXED = ModelConfig(
    vocab_size=64, embed_dim=16, mlp_dim=24, num_layers=2, num_heads=4, num_kv_heads=2,
    max_seq_len=16, attention="reference",
    variant=Variant(
        head_dim=6, window=3, windowed_layers=(0,), unrotated_layers=(1,),
        local_rope=RopeConfig(100.0),
    ),
)  # fmt: skip
FAMILIES = {
    "qwen": Variant(qkv_bias=True, qk_norm="head"),
    "olmo": Variant(norms="post", qk_norm="projection"),
    "gemma": Variant(
        norms="both", qk_norm="head", centred_norms=True, scaled_embedding=True,
        query_scalar=5.0, activation="gelu_tanh",
    ),
}  # fmt: skip


def changed(**fields: Any) -> ModelConfig:
    return dataclasses.replace(MIXED, variant=dataclasses.replace(MIXED.block, **fields))


def of_family(name: str) -> ModelConfig:
    """The mixed layers with what a family adds."""
    own = {field.name: getattr(MIXED.block, field.name) for field in dataclasses.fields(Variant)}
    plain = {key for key, value in own.items() if value != getattr(Variant(), key)}
    added = dataclasses.replace(FAMILIES[name], **{key: own[key] for key in plain})
    return dataclasses.replace(MIXED, variant=added)


def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 64, (2, LENGTH)).astype(np.int32)


def parameters(config: ModelConfig) -> Any:
    """Random parameters, norms and biases among them."""
    shapes = jax.eval_shape(build_transformer(config, platform="cpu").init, jax.random.key(0),
                            tokens())  # fmt: skip
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32),
        nn.meta.unbox(shapes)["params"],
    )


def hidden(config: ModelConfig, params: Any, inputs: Any, segments: Any = None) -> jax.Array:
    return build_transformer(config, platform="cpu").apply({"params": params}, inputs, segments)


def test_scanned_layers_are_the_unrolled_ones() -> None:
    """Values and gradients, each layer with the window and the rotation of its number."""
    params = parameters(MIXED)
    names = [f"layer_{number}" for number in range(2)]
    segments = np.asarray([[0] * 5 + [1] * 3, [0] * LENGTH])

    def stacked(params: Any) -> Any:
        layers = jax.tree.map(lambda *each: jnp.stack(each), *(params[name] for name in names))
        return {**{k: v for k, v in params.items() if k not in names}, "layers": layers}

    @functools.partial(jax.jit, static_argnums=0)
    def run(config: ModelConfig, params: Any) -> Any:
        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            given = stacked(params) if config.layer_loop == "scan" else params
            x_BLD = hidden(config, given, tokens(), segments)
            return jnp.sum(jnp.sin(3 * x_BLD)), x_BLD

        return jax.grad(loss, has_aux=True)(params)

    wanted = run(MIXED, params)
    got = run(dataclasses.replace(MIXED, layer_loop="scan", remat="matmuls"), params)
    for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(other, one, atol=2e-5 * float(np.abs(one).max()))


def test_a_window_is_what_a_layer_sees() -> None:
    """One layer with a window of three: position 6 depends on 4, 5 and 6 and nothing else."""
    config = dataclasses.replace(
        MIXED, num_layers=1, variant=Variant(window=3, windowed_layers=(0,))
    )
    params, distinct = parameters(config), np.arange(LENGTH)[None]

    def state(embedding_VD: jax.Array) -> jax.Array:
        found = hidden(config, {**params, "embedding": embedding_VD}, distinct)
        return jnp.sum(jnp.square(found[0, 6]))

    gradient_VD = np.asarray(jax.jit(jax.grad(state))(params["embedding"]))
    assert np.flatnonzero(np.abs(gradient_VD).sum(axis=1)).tolist() == [4, 5, 6]


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_counted(family: str) -> None:
    config = of_family(family)
    boxed = jax.eval_shape(
        build_transformer(config, platform="cpu").init, jax.random.key(0), tokens()
    )["params"]
    leaves = jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))
    assert sum(leaf.value.size for leaf in leaves) == parameter_counts(config).total
    assert all(len(leaf.names) == leaf.value.ndim for leaf in leaves)
    decayed = decay_mask(nn.meta.unbox(boxed))
    matrices = {"query", "key", "value", "out", "gate", "up", "down"}
    assert {name for name, value in decayed["layer_0"].items() if value is True} == matrices


def test_a_norm_that_is_centred_starts_at_zero_and_multiplies_by_one() -> None:
    x_D = jnp.arange(4.0)
    for centred, start in ((True, 0.0), (False, 1.0)):
        norm = RMSNorm(1e-5, centred)
        out_D, drawn = norm.init_with_output(jax.random.key(0), x_D)
        scale_D = nn.meta.unbox(drawn)["params"]["scale"]
        assert np.all(scale_D == start)
        np.testing.assert_allclose(out_D, x_D / np.sqrt(3.5), rtol=1e-4)
        twice = norm.apply({"params": {"scale": scale_D + 1.0}}, x_D)
        np.testing.assert_allclose(twice, 2 * out_D, rtol=1e-6)


def test_flops_of_windows_by_hand() -> None:
    """Of 8 keys a window of 3 leaves 3; 21 of 64 pairs are needed, 19.5 counted as the half is."""
    full = flops_per_token(MIXED, LENGTH, causal_half=False)
    half = flops_per_token(MIXED, LENGTH, causal_half=True)
    each = 6 * 2 * 4 * 6  # forward and backward, two products, four heads of six
    assert full.attention == each * (8 + 3)
    assert half.attention == pytest.approx(each * (4 + 19.5 / 8))
    short = flops_per_token(MIXED, 2, causal_half=True)
    assert short.attention == flops_per_token(changed(window=9), 2, causal_half=True).attention
    whole = dataclasses.replace(MIXED, variant=Variant(head_dim=6))
    assert half.body == flops_per_token(whole, LENGTH, causal_half=True).body
    assert half.body == 6 * 2 * (16 * 6 * 2 * (4 + 2) + 3 * 16 * 24)


def test_geglu_by_automatic_differentiation() -> None:
    random = np.random.default_rng(0)
    gate, up, dout = (jnp.asarray(random.normal(size=(3, 8)).astype(np.float32)) for _ in range(3))

    def textbook(gate: jax.Array, up: jax.Array) -> jax.Array:
        inner = np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)
        return 0.5 * gate * (1 + jnp.tanh(inner)) * up

    def values(function: Any) -> Any:
        out, pull = jax.vjp(function, 2 * gate, up)
        return out, *pull(dout)

    for got, right in zip(jax.jit(values, static_argnums=0)(geglu), values(textbook), strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-5, atol=1e-5)
