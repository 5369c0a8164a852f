"""Llama-3-style decoder in Flax Linen: tokens in, normed final hidden states out.

What other families of open weights do otherwise is `architecture.Variant`; where layers differ in
what they see, a scanned layer chooses among the kinds that there are. The model names logical axes
and knows neither mesh nor devices; the head is applied by the loss, which never needs all logits
at once.

Shape letters: B batch, L length, D embed, F mlp, H query heads, G key/value heads, K head width,
V vocabulary, N layers.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.attention import Attend, is_cudnn_forward, make_attention
from replay_jax.model.blockwise import ATTENTION_OUTPUT
from replay_jax.model.layers import (
    Rope,
    dropped,
    geglu,
    kept_products,
    look_up,
    parameter,
    places,
    product,
    rms_norm,
    rope_tables,
    rotate,
    stacked_tables,
    swiglu,
)
from replay_jax.model.placement import Placement

# Every name a parameter or an activation uses; the sharding table must have a rule for each.
PARAMETER_AXES = ("vocab", "embed", "mlp", "heads", "kv_heads", "head_dim", "norm", "layers")
ACTIVATION_AXES = (
    "batch", "lookup_batch", "length", "activation_embed", "activation_mlp", "activation_heads",
)  # fmt: skip
LOGICAL_AXES = PARAMETER_AXES + ACTIVATION_AXES

Params = Mapping[str, Any]


class Transformer(nn.Module):
    """Decoder without its head. Call with token ids, get hidden states of the compute dtype.

    `attends` are the attention forms (`attention.make_attention`) of the kinds of layers, in the
    order in which they first occur. Parameters are drawn in float32. At the rate `dropout` numbers
    of embeddings, and of what attention and MLP add, are dropped, given keys of the rows.
    """

    config: ModelConfig
    attends: tuple[Attend, ...]
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        inputs_BL: jax.Array,
        segments_BL: jax.Array | None = None,
        keys_B2: jax.Array | None = None,
    ) -> jax.Array:
        """Return the final hidden states, normed, ready for the head: [B, L, D]."""
        config, keys_NB2 = self.config, None
        normal = nn.initializers.normal(config.init_scale)
        embedding_VD = parameter(
            self, "embedding", normal, ("vocab", "embed"), (config.vocab_size, config.embed_dim)
        )
        if not config.tied_embeddings:
            init = matrix_init(config, config.embed_dim)
            parameter(self, "head", init, ("embed", "vocab"), (config.embed_dim, config.vocab_size))
        x_BLD = look_up(embedding_VD, inputs_BL).astype(config.compute_dtype)
        if config.block.scaled_embedding:
            x_BLD = x_BLD * jnp.asarray(math.sqrt(config.embed_dim), config.compute_dtype)
        # Every device looks up its own columns for all rows of its replica, so the gradient of
        # the table is formed where it is kept and never whole.
        x_BLD = _constrain(x_BLD, "lookup_batch", "length", "embed")
        x_BLD = _constrain(x_BLD, "batch", "length", "activation_embed")
        if keys_B2 is not None:
            keys_NB2 = places(keys_B2, config.num_layers + 1)
            x_BLD, keys_NB2 = dropped(x_BLD, keys_NB2[0], self.dropout), keys_NB2[1:]
        x_BLD = self._layers(x_BLD, segments_BL, keys_NB2)
        return _norm(config, "final_norm")(x_BLD)

    def _layers(
        self, x_BLD: jax.Array, segments_BL: jax.Array | None, keys_NB2: jax.Array | None
    ) -> jax.Array:
        config = self.config
        kinds = list(dict.fromkeys(config.layer_kinds))
        of_layers = [kinds.index(kind) for kind in config.layer_kinds]
        ropes = [
            None if kind.rope is None else rope_tables(kind.rope, config.head_dim, x_BLD.shape[1])
            for kind in kinds
        ]
        scanned = config.layer_loop == "scan"
        layer = _with_remat(Layer, config, prevent_cse=not scanned)
        if not scanned:
            for index, kind in enumerate(of_layers):
                keys_B2 = None if keys_NB2 is None else keys_NB2[index]
                one = layer(config, (self.attends[kind],), self.dropout, name=f"layer_{index}")
                x_BLD, _ = one(x_BLD, ropes[kind], segments_BL, None, keys_B2)
            return x_BLD
        alike, whole = len(kinds) == 1, keys_NB2 is None
        stack = nn.scan(
            layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=tuple(nn.broadcast if one else 0 for one in (True, True, alike, whole)),
            length=config.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(config, self.attends, self.dropout, name="layers")
        which = None if alike else jnp.asarray(of_layers)
        rope = ropes[0] if alike else stacked_tables(ropes)
        return stack(x_BLD, rope, segments_BL, which, keys_NB2)[0]


class Layer(nn.Module):
    """Attention and gated MLP, each with its norms and its residual.

    `attends` has one form, or one for each kind of layers, of which a scanned layer is told its
    own; then its rotary tables have an axis of kinds before all others.
    """

    config: ModelConfig
    attends: tuple[Attend, ...]
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x_BLD: jax.Array,
        rope: Rope | None,
        segments_BL: jax.Array | None,
        kind: jax.Array | None,
        keys_B2: jax.Array | None = None,
    ) -> tuple[jax.Array, None]:
        """Return the layer's output and nothing else, in the form a scan wants."""

        def attention(x_BLD: jax.Array) -> jax.Array:
            return self._attention(x_BLD, rope, segments_BL, kind)

        first_B2, second_B2 = (None, None) if keys_B2 is None else places(keys_B2, 2)
        added_BLD = self._normed("attention", attention, x_BLD)
        x_BLD = x_BLD + dropped(added_BLD, first_B2, self.dropout)
        x_BLD = x_BLD + dropped(self._normed("mlp", self._mlp, x_BLD), second_B2, self.dropout)
        return _constrain(x_BLD, "batch", "length", "activation_embed"), None

    def _normed(
        self, name: str, function: Callable[[jax.Array], jax.Array], x_BLD: jax.Array
    ) -> jax.Array:
        """A function between the norms that the variant puts around it."""
        norms = self.config.block.norms
        if norms != "post":
            x_BLD = _norm(self.config, f"{name}_norm")(x_BLD)
        x_BLD = function(x_BLD)
        return x_BLD if norms == "pre" else _norm(self.config, f"{name}_post_norm")(x_BLD)

    def _attention(
        self,
        x_BLD: jax.Array,
        rope: Rope | None,
        segments_BL: jax.Array | None,
        kind: jax.Array | None,
    ) -> jax.Array:
        config = self.config
        embed, heads, kv_heads = config.embed_dim, config.num_heads, config.num_kv_heads
        width = config.head_dim
        query_DHK = self._kernel("query", ("embed", "heads", "head_dim"), (embed, heads, width))
        key_DGK = self._kernel("key", ("embed", "kv_heads", "head_dim"), (embed, kv_heads, width))
        value_DGK = self._kernel(
            "value", ("embed", "kv_heads", "head_dim"), (embed, kv_heads, width)
        )
        out_HKD = self._kernel(
            "out", ("heads", "head_dim", "embed"), (heads, width, embed), inputs=heads * width
        )
        if kind is not None:
            rope = jax.tree.map(lambda table: table[kind], rope)
        q_BLHK = self._heads("query", "heads", x_BLD, query_DHK)
        q_BLHK = rotate(_constrain(q_BLHK, "batch", "length", "activation_heads", None), rope)
        k_BLGK = rotate(self._heads("key", "kv_heads", x_BLD, key_DGK), rope)
        arrays = (q_BLHK, k_BLGK, self._heads("value", "kv_heads", x_BLD, value_DGK), segments_BL)
        if kind is None:
            out_BLHK = self.attends[0](*arrays)
        else:
            out_BLHK = jax.lax.switch(kind, self.attends, *arrays)
        out_BLHK = jax.ad_checkpoint.checkpoint_name(out_BLHK, ATTENTION_OUTPUT)
        flat_BLX = out_BLHK.reshape(*x_BLD.shape[:2], heads * width)
        return product(self, "out", flat_BLX, out_HKD, ("heads", "head_dim", "embed"), inputs=2)

    def _heads(self, name: str, axis: str, x_BLD: jax.Array, kernel_DHK: jax.Array) -> jax.Array:
        """Queries, keys or values [B, L, H, K], with the bias and norm that the variant has."""
        block, shape = self.config.block, kernel_DHK.shape[1:]
        flat_BLX = product(self, name, x_BLD, kernel_DHK, ("embed", axis, "head_dim"))
        if block.qkv_bias:
            zeros = nn.initializers.zeros_init()
            bias_HK = parameter(self, f"{name}_bias", zeros, (axis, "head_dim"), shape)
            flat_BLX = flat_BLX + bias_HK.astype(flat_BLX.dtype).reshape(1, 1, -1)
        is_normed = name != "value"
        if is_normed and block.qk_norm == "projection":
            flat_BLX = _norm(self.config, f"{name}_norm")(flat_BLX)
        heads_BLHK = flat_BLX.reshape(*x_BLD.shape[:2], *shape)
        if is_normed and block.qk_norm == "head":
            heads_BLHK = _norm(self.config, f"{name}_norm")(heads_BLHK)
        return heads_BLHK

    def _mlp(self, x_BLD: jax.Array) -> jax.Array:
        embed, mlp = self.config.embed_dim, self.config.mlp_dim
        gate_DF = self._kernel("gate", ("embed", "mlp"), (embed, mlp))
        up_DF = self._kernel("up", ("embed", "mlp"), (embed, mlp))
        down_FD = self._kernel("down", ("mlp", "embed"), (mlp, embed))
        glu = {"silu": swiglu, "gelu_tanh": geglu}[self.config.block.activation]
        gate_BLF = product(self, "gate", x_BLD, gate_DF, ("embed", "mlp"))
        hidden_BLF = glu(gate_BLF, product(self, "up", x_BLD, up_DF, ("embed", "mlp")))
        hidden_BLF = _constrain(hidden_BLF, "batch", "length", "activation_mlp")
        return product(self, "down", hidden_BLF, down_FD, ("mlp", "embed"))

    def _kernel(
        self, name: str, axes: tuple[str, ...], shape: tuple[int, ...], inputs: int = 0
    ) -> jax.Array:
        """A float32 parameter, cast for the computation; its inputs are the first axis or given."""
        init = matrix_init(self.config, inputs or shape[0])
        return parameter(self, name, init, axes, shape).astype(self.config.compute_dtype)


class RMSNorm(nn.Module):
    """`rms_norm` of the last axis with its own scale, which starts at one.

    `centred`: what is kept is the scale less one.
    """

    epsilon: float
    centred: bool

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        """Return an array of the shape and dtype of the input."""
        start = nn.initializers.zeros_init() if self.centred else nn.initializers.ones_init()
        scale_D = parameter(self, "scale", start, ("norm",), (x_BLD.shape[-1],))
        return rms_norm(x_BLD, 1.0 + scale_D if self.centred else scale_D, self.epsilon)


def build_transformer(
    config: ModelConfig, *, platform: str, placement: Placement | None = None, dropout: float = 0.0
) -> Transformer:
    """Return the model with the attention that suits a platform ("cpu", "gpu", "tpu")."""
    scalar = config.block.query_scalar
    attends = [
        make_attention(
            config.attention, platform=platform, placement=placement, window=kind.window,
            scale=scalar**-0.5 if scalar else None,
        )
        for kind in dict.fromkeys(config.layer_kinds)
    ]  # fmt: skip
    return Transformer(config, tuple(attends), dropout)


def head_kernel(params: Params) -> jax.Array:
    """Return the head matrix [D, V] in float32: its own, or the transposed embedding if tied."""
    return params["head"] if "head" in params else params["embedding"].T


def matrix_init(config: ModelConfig, inputs: int) -> nn.initializers.Initializer:
    """How a matrix of so many inputs is first drawn (`ModelConfig.initialization`)."""
    if config.initialization == "normal":
        return nn.initializers.normal(config.init_scale)

    def cut_off(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.truncated_normal(key, -3.0, 3.0, shape, dtype) / math.sqrt(inputs)

    return cut_off


def _norm(config: ModelConfig, name: str) -> RMSNorm:
    return RMSNorm(config.norm_epsilon, config.block.centred_norms, name=name)


def _with_remat(layer: type[nn.Module], config: ModelConfig, prevent_cse: bool) -> type[nn.Module]:
    if config.remat == "none":
        return layer
    policies = jax.checkpoint_policies
    policy = policies.nothing_saveable
    if config.remat == "matmuls":
        policy = policies.save_from_both_policies(
            kept_products(config),
            policies.save_from_both_policies(
                policies.save_only_these_names(ATTENTION_OUTPUT), is_cudnn_forward
            ),
        )
    return nn.remat(layer, policy=policy, prevent_cse=prevent_cse)


def _constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """State an activation's logical axes; does nothing outside a mesh."""
    return nn.with_logical_constraint(x, axes)
