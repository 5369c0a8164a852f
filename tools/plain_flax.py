"""The yardstick of tools/bench_peers.py: a Flax decoder and train step as one first writes them.

The full square of attention, repeated key and value heads, all logits at once, automatic
differentiation, Optax. Shape letters: B batch, L length, H heads, K head width.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


class Decoder(nn.Module):
    """A Llama-like decoder with untied head; calls give all logits."""

    embed: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    @nn.compact
    def __call__(self, tokens_BL: jax.Array) -> jax.Array:
        """Return logits [B, L, vocabulary]."""
        x = nn.Embed(self.vocabulary, self.embed)(tokens_BL)
        mask = nn.make_causal_mask(tokens_BL)
        shape, repeats = (self.heads, self.embed // self.heads), self.heads // self.kv_heads
        for _ in range(self.layers):
            normed = nn.RMSNorm()(x)
            query = nn.DenseGeneral(shape, use_bias=False)(normed)
            key = nn.DenseGeneral((self.kv_heads, shape[1]), use_bias=False)(normed)
            value = nn.DenseGeneral((self.kv_heads, shape[1]), use_bias=False)(normed)
            key, value = (jnp.repeat(each, repeats, axis=2) for each in (rotate(key), value))
            mixed = nn.dot_product_attention(rotate(query), key, value, mask=mask)
            x = x + nn.DenseGeneral(self.embed, axis=(-2, -1), use_bias=False)(mixed)
            normed = nn.RMSNorm()(x)
            gate, up = (nn.Dense(self.mlp, use_bias=False)(normed) for _ in range(2))
            x = x + nn.Dense(self.embed, use_bias=False)(nn.silu(gate) * up)
        return nn.Dense(self.vocabulary, use_bias=False)(nn.RMSNorm()(x))


def rotate(x_BLHK: jax.Array) -> jax.Array:
    """Rotary position embedding, Llama's half split."""
    width = x_BLHK.shape[-1]
    frequencies = 10_000.0 ** -(jnp.arange(0, width, 2) / width)
    angles = (jnp.arange(x_BLHK.shape[1])[:, None] * frequencies)[None, :, None]
    low, high = jnp.split(x_BLHK, 2, axis=-1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def prepare(shape: tuple[int, ...], *, batch: int, seq_len: int) -> Callable[[], object]:
    """Compile the step for D,F,L,H,KV,VOCAB and return a function that runs one."""
    model = Decoder(*shape)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, b2=0.95, weight_decay=0.1)
    )
    tokens_BL = jax.random.randint(jax.random.key(0), (batch, seq_len), 0, model.vocabulary)
    params = jax.jit(model.init)(jax.random.key(1), tokens_BL[:, :8])
    carried = (params, jax.jit(optimizer.init)(params))

    def loss(params: Any, tokens_BL: jax.Array) -> jax.Array:
        labels_BL = jnp.roll(tokens_BL, -1, axis=1)
        return optax.softmax_cross_entropy_with_integer_labels(
            model.apply(params, tokens_BL), labels_BL
        ).mean()

    def update(carried: Any, tokens_BL: jax.Array) -> Any:
        params, optimizer_state = carried
        gradients = jax.grad(loss)(params, tokens_BL)
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state

    compiled = jax.jit(update, donate_argnums=0).lower(carried, tokens_BL).compile()

    def step() -> None:
        nonlocal carried
        carried = jax.block_until_ready(compiled(carried, tokens_BL))

    return step
