"""The decoder against one written in NumPy, and what its layers and axes are called."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import SHAPE, mesh_of

from replay_jax.errors import UserError
from replay_jax.model import decoder as transformer
from replay_jax.model.architecture import ModelConfig, RopeConfig
from replay_jax.model.decoder import build_transformer
from replay_jax.training.mesh.sharding import LOGICAL_AXIS_RULES
from replay_jax.training.step import check_shape

# Large initial weights: with 0.02 attention is all but uniform and a wrong one would pass.
MODEL = ModelConfig(
    vocab_size=32,
    embed_dim=16,
    mlp_dim=24,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    max_seq_len=16,
    init_scale=0.3,
)
LENGTH = 8
TOKENS = jnp.asarray(np.random.default_rng(0).permutation(32).reshape(4, LENGTH), jnp.int32)
STRETCHED = RopeConfig(theta=500.0, scaling="llama3", factor=8.0, original_length=64)


def changed(**fields):
    return dataclasses.replace(MODEL, **fields)


def init(config, seed=1):
    boxed = jax.jit(build_transformer(config, platform="cpu").init)(jax.random.key(seed), TOKENS)
    params = nn.unbox(boxed)["params"]

    def rescale(path, leaf):  # norms start at one, where a forgotten scale would go unseen
        noise = np.random.default_rng(leaf.size).uniform(0.5, 1.5, leaf.shape)
        return leaf * noise.astype(np.float32) if "norm" in jax.tree_util.keystr(path) else leaf

    return jax.tree_util.tree_map_with_path(rescale, params)


def hidden(config, params, tokens=TOKENS, segments=None):
    model = build_transformer(config, platform="cpu")
    return jax.jit(model.apply)({"params": params}, tokens, segments)


@pytest.fixture(scope="module")
def params():
    return init(MODEL)


def norm_by_hand(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale


def angles_by_hand(rope, width):
    """Llama 3.1's rule, told by wavelengths as in its model card."""
    result = []
    for pair in range(width // 2):
        frequency = rope.theta ** (-2 * pair / width)
        wavelength = 2 * np.pi / frequency
        longest = rope.original_length / rope.low_freq_factor
        shortest = rope.original_length / rope.high_freq_factor
        if rope.scaling == "llama3" and wavelength > longest:
            frequency /= rope.factor
        elif rope.scaling == "llama3" and wavelength >= shortest:
            smooth = (rope.original_length / wavelength - rope.low_freq_factor) / (
                rope.high_freq_factor - rope.low_freq_factor
            )
            frequency = (1 - smooth) * frequency / rope.factor + smooth * frequency
        result.append(frequency)
    return np.array(result)


def rotate_by_hand(x, rope):
    """A rotation is a product with a complex number of length one."""
    half = x.shape[-1] // 2
    turn = np.exp(1j * np.outer(np.arange(x.shape[1]), angles_by_hand(rope, x.shape[-1])))
    turned = (x[..., :half] + 1j * x[..., half:]) * turn[:, None]
    return np.concatenate([turned.real, turned.imag], axis=-1)


def attention_by_hand(q, k, v):
    out = np.zeros_like(q)
    shared = q.shape[2] // k.shape[2]
    for b, t, h in np.ndindex(q.shape[:3]):
        scores = k[b, : t + 1, h // shared] @ q[b, t, h] / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max())
        out[b, t, h] = weights / weights.sum() @ v[b, : t + 1, h // shared]
    return out


def decoder_by_hand(config, params, tokens):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = params["embedding"][np.asarray(tokens)]
    for index in range(config.num_layers):
        p = params[f"layer_{index}"]
        normed = norm_by_hand(x, p["attention_norm"]["scale"])
        q, k, v = (np.tensordot(normed, p[name], 1) for name in ("query", "key", "value"))
        mixed = attention_by_hand(rotate_by_hand(q, config.rope), rotate_by_hand(k, config.rope), v)
        x = x + np.tensordot(mixed, p["out"], 2)
        normed = norm_by_hand(x, p["mlp_norm"]["scale"])
        gate = normed @ p["gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (normed @ p["up"])) @ p["down"]
    return norm_by_hand(x, params["final_norm"]["scale"])


@pytest.mark.parametrize("attention", ["reference", "blockwise"])
@pytest.mark.parametrize("rope", [RopeConfig(), STRETCHED], ids=["plain", "llama3"])
def test_the_decoder_is_the_one_written_in_numpy(params, rope, attention):
    config = changed(rope=rope, attention=attention)
    expected = decoder_by_hand(config, params, TOKENS)
    np.testing.assert_allclose(hidden(config, params), expected, atol=3e-5)


def test_shared_heads_are_repeated_heads(params):
    repeated = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            jnp.repeat(leaf, 2, axis=1) if path[-1].key in ("key", "value") else leaf
        ),
        params,
    )
    assert repeated["layer_0"]["key"].shape == (16, 4, 4)
    full = hidden(changed(num_kv_heads=4), repeated)
    np.testing.assert_allclose(full, hidden(MODEL, params), atol=1e-5)


def test_longer_sequences_than_the_model_takes_are_refused():
    limit = SHAPE.model.max_seq_len
    check_shape(dataclasses.replace(SHAPE, seq_len=limit), mesh_of(1, 1, 1))
    with pytest.raises(UserError, match=f"seq_len {limit + 1} is longer than model.max_seq_len"):
        check_shape(dataclasses.replace(SHAPE, seq_len=limit + 1), mesh_of(1, 1, 1))


@pytest.mark.parametrize("layer_loop", ["unroll", "scan"])
def test_every_axis_that_is_named_has_a_rule(monkeypatch, layer_loop):
    named = set()
    monkeypatch.setattr(transformer, "_constrain", lambda x, *axes: named.update(axes) or x)
    model = build_transformer(changed(layer_loop=layer_loop), platform="cpu")
    boxed = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    assert "activation_heads" in named
    for spec in jax.tree.leaves(nn.get_partition_spec(boxed)):
        named.update(spec)
    assert {"vocab", "head_dim", "norm"} <= named
    assert ("layers" in named) == (layer_loop == "scan")
    assert named - {None} <= {name for name, _ in LOGICAL_AXIS_RULES}
