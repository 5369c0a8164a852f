"""Llama-3-style decoder in Flax Linen: tokens in, normed final hidden states out.

The model names logical axes and knows neither mesh nor devices; the head is applied by the loss,
which never needs all logits at once.

Shape letters: B batch, L length, D embed, F mlp, H query heads, G key/value heads, K head width,
V vocabulary, N layers.
"""

from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from replay_jax.model.architecture import ModelConfig, RopeConfig
from replay_jax.model.attention import ATTENTION_OUTPUT, Attend, make_attention
from replay_jax.model.placement import Placement

# Every name a parameter or an activation uses; the sharding table must have a rule for each.
PARAMETER_AXES = ("vocab", "embed", "mlp", "heads", "kv_heads", "head_dim", "norm", "layers")
ACTIVATION_AXES = ("batch", "length", "activation_embed", "activation_mlp", "activation_heads")
LOGICAL_AXES = PARAMETER_AXES + ACTIVATION_AXES

Params = Mapping[str, Any]


class Transformer(nn.Module):
    """Decoder without its head. Call with token ids, get hidden states of the compute dtype.

    `attend` is the attention form (`attention.make_attention`). Parameters are float32.
    """

    config: ModelConfig
    attend: Attend

    @nn.compact
    def __call__(self, inputs_BL: jax.Array, segments_BL: jax.Array | None = None) -> jax.Array:
        """Return the final hidden states, normed, ready for the head: [B, L, D]."""
        config = self.config
        normal = nn.initializers.normal(config.init_scale)
        embedding_VD = _parameter(
            self, "embedding", normal, ("vocab", "embed"), (config.vocab_size, config.embed_dim)
        )
        if not config.tied_embeddings:
            _parameter(
                self, "head", normal, ("embed", "vocab"), (config.embed_dim, config.vocab_size)
            )
        x_BLD = jnp.take(embedding_VD, inputs_BL, axis=0).astype(config.compute_dtype)
        x_BLD = _constrain(x_BLD, "batch", "length", "activation_embed")
        rope = rope_tables(config.rope, config.head_dim, inputs_BL.shape[1])
        x_BLD = self._layers(x_BLD, rope, segments_BL)
        return RMSNorm(config.norm_epsilon, name="final_norm")(x_BLD)

    def _layers(
        self, x_BLD: jax.Array, rope: tuple[jax.Array, jax.Array], segments_BL: jax.Array | None
    ) -> jax.Array:
        config = self.config
        scanned = config.layer_loop == "scan"
        layer = _with_remat(Layer, config.remat, prevent_cse=not scanned)
        if not scanned:
            for index in range(config.num_layers):
                x_BLD, _ = layer(config, self.attend, name=f"layer_{index}")(
                    x_BLD, rope, segments_BL
                )
            return x_BLD
        stack = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast, nn.broadcast),
            length=config.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return stack(config, self.attend, name="layers")(x_BLD, rope, segments_BL)[0]


class Layer(nn.Module):
    """Pre-norm attention and SwiGLU, each with its residual."""

    config: ModelConfig
    attend: Attend

    @nn.compact
    def __call__(
        self,
        x_BLD: jax.Array,
        rope: tuple[jax.Array, jax.Array],
        segments_BL: jax.Array | None,
    ) -> tuple[jax.Array, None]:
        """Return the layer's output and nothing else, in the form a scan wants."""
        config = self.config
        embed, width = config.embed_dim, config.head_dim
        normed_BLD = RMSNorm(config.norm_epsilon, name="attention_norm")(x_BLD)
        x_BLD = x_BLD + self._attention(normed_BLD, rope, segments_BL, embed, width)
        normed_BLD = RMSNorm(config.norm_epsilon, name="mlp_norm")(x_BLD)
        x_BLD = x_BLD + self._mlp(normed_BLD, embed)
        return _constrain(x_BLD, "batch", "length", "activation_embed"), None

    def _attention(
        self,
        x_BLD: jax.Array,
        rope: tuple[jax.Array, jax.Array],
        segments_BL: jax.Array | None,
        embed: int,
        width: int,
    ) -> jax.Array:
        heads, kv_heads = self.config.num_heads, self.config.num_kv_heads
        query_DHK = self._kernel("query", ("embed", "heads", "head_dim"), (embed, heads, width))
        key_DGK = self._kernel("key", ("embed", "kv_heads", "head_dim"), (embed, kv_heads, width))
        value_DGK = self._kernel(
            "value", ("embed", "kv_heads", "head_dim"), (embed, kv_heads, width)
        )
        out_HKD = self._kernel("out", ("heads", "head_dim", "embed"), (heads, width, embed))
        q_BLHK = rotate(jnp.einsum("BLD,DHK->BLHK", x_BLD, query_DHK), rope)
        k_BLGK = rotate(jnp.einsum("BLD,DGK->BLGK", x_BLD, key_DGK), rope)
        v_BLGK = jnp.einsum("BLD,DGK->BLGK", x_BLD, value_DGK)
        q_BLHK = _constrain(q_BLHK, "batch", "length", "activation_heads", None)
        out_BLHK = self.attend(q_BLHK, k_BLGK, v_BLGK, segments_BL)
        out_BLHK = jax.ad_checkpoint.checkpoint_name(out_BLHK, ATTENTION_OUTPUT)
        return jnp.einsum("BLHK,HKD->BLD", out_BLHK, out_HKD)

    def _mlp(self, x_BLD: jax.Array, embed: int) -> jax.Array:
        mlp = self.config.mlp_dim
        gate_DF = self._kernel("gate", ("embed", "mlp"), (embed, mlp))
        up_DF = self._kernel("up", ("embed", "mlp"), (embed, mlp))
        down_FD = self._kernel("down", ("mlp", "embed"), (mlp, embed))
        hidden_BLF = jax.nn.silu(x_BLD @ gate_DF) * (x_BLD @ up_DF)
        hidden_BLF = _constrain(hidden_BLF, "batch", "length", "activation_mlp")
        return hidden_BLF @ down_FD

    def _kernel(self, name: str, axes: tuple[str, ...], shape: tuple[int, ...]) -> jax.Array:
        """A float32 parameter, cast for the computation."""
        normal = nn.initializers.normal(self.config.init_scale)
        return _parameter(self, name, normal, axes, shape).astype(self.config.compute_dtype)


class RMSNorm(nn.Module):
    """Divide by the root mean square over the last axis, in float32, and scale (1910.07467)."""

    epsilon: float

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        """Return an array of the shape and dtype of the input."""
        ones = nn.initializers.ones_init()
        scale_D = _parameter(self, "scale", ones, ("norm",), (x_BLD.shape[-1],))
        x32_BLD = x_BLD.astype(jnp.float32)
        mean_square_BL1 = jnp.mean(jnp.square(x32_BLD), axis=-1, keepdims=True)
        normed_BLD = x32_BLD * jax.lax.rsqrt(mean_square_BL1 + self.epsilon)
        return (normed_BLD * scale_D[None, None]).astype(x_BLD.dtype)


def build_transformer(
    config: ModelConfig, *, platform: str, placement: Placement | None = None
) -> Transformer:
    """Return the model with the attention that suits a platform ("cpu", "gpu", "tpu")."""
    return Transformer(
        config, make_attention(config.attention, platform=platform, placement=placement)
    )


def head_kernel(params: Params) -> jax.Array:
    """Return the head matrix [D, V] in float32: its own, or the transposed embedding if tied."""
    return params["head"] if "head" in params else params["embedding"].T


def rope_frequencies(config: RopeConfig, head_dim: int) -> np.ndarray:
    """Return the K/2 angles per position, in radians (RoPE, 2104.09864; Llama 3.1 scaling)."""
    frequencies = config.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if config.scaling == "none":
        return frequencies
    wavelengths = 2 * np.pi / frequencies
    turns = config.original_length / wavelengths
    kept = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    kept = np.clip(kept, 0.0, 1.0)
    return frequencies * (kept + (1 - kept) / config.factor)


def rope_tables(config: RopeConfig, head_dim: int, length: int) -> tuple[jax.Array, jax.Array]:
    """Return cosines and sines [L, K/2] in float32 for positions 0 to L - 1."""
    frequencies = jnp.asarray(rope_frequencies(config, head_dim), jnp.float32)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * frequencies[None]
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BLHK: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turn each pair (k, k + K/2) by its position's angle, in float32 (Llama's half split)."""
    cos, sin = (table[None, :, None] for table in rope)
    low, high = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
    return turned.astype(x_BLHK.dtype)


def stack_layers(params: Params) -> dict[str, Any]:
    """Turn the parameters of an unrolled model into those of a scanned one."""
    names = sorted((n for n in params if n.startswith("layer_")), key=lambda n: int(n[6:]))
    rest = {name: value for name, value in params.items() if name not in names}
    layers = jax.tree.map(lambda *each: jnp.stack(each), *(params[name] for name in names))
    return {**rest, "layers": layers}


def _with_remat(layer: type[nn.Module], remat: str, *, prevent_cse: bool) -> type[nn.Module]:
    if remat == "none":
        return layer
    policies = jax.checkpoint_policies
    policy = policies.nothing_saveable
    if remat == "matmuls":
        policy = policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable,
            policies.save_only_these_names(ATTENTION_OUTPUT),
        )
    return nn.remat(layer, policy=policy, prevent_cse=prevent_cse)


def _parameter(
    module: nn.Module,
    name: str,
    init: nn.initializers.Initializer,
    axes: tuple[str, ...],
    shape: tuple[int, ...],
) -> jax.Array:
    """Declare a float32 parameter with its logical axes."""
    value = module.param(name, nn.with_logical_partitioning(init, axes), shape)
    return cast(jax.Array, value)


def _constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """State an activation's logical axes; does nothing outside a mesh."""
    return nn.with_logical_constraint(x, axes)
