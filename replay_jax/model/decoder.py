"""Llama-3-style decoder in Flax Linen: tokens in, normed final hidden states out.

The model names logical axes and knows neither mesh nor devices; the head is applied by the loss,
which never needs all logits at once.

Shape letters: B batch, L length, D embed, F mlp, H query heads, G key/value heads, K head width,
V vocabulary, N layers.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.attention import Attend, make_attention
from replay_jax.model.blockwise import ATTENTION_OUTPUT
from replay_jax.model.layers import Rope, look_up, project, rms_norm, rope_tables, rotate, swiglu
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
            init = matrix_init(config, config.embed_dim)
            _parameter(
                self, "head", init, ("embed", "vocab"), (config.embed_dim, config.vocab_size)
            )
        x_BLD = look_up(embedding_VD, inputs_BL).astype(config.compute_dtype)
        # Every device looks up its own columns for all rows of its replica, so the gradient of
        # the table is formed where it is kept and never whole.
        x_BLD = _constrain(x_BLD, "lookup_batch", "length", "embed")
        x_BLD = _constrain(x_BLD, "batch", "length", "activation_embed")
        rope = rope_tables(config.rope, config.head_dim, inputs_BL.shape[1])
        x_BLD = self._layers(x_BLD, rope, segments_BL)
        return RMSNorm(config.norm_epsilon, name="final_norm")(x_BLD)

    def _layers(self, x_BLD: jax.Array, rope: Rope, segments_BL: jax.Array | None) -> jax.Array:
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
        rope: Rope,
        segments_BL: jax.Array | None,
    ) -> tuple[jax.Array, None]:
        """Return the layer's output and nothing else, in the form a scan wants."""
        epsilon = self.config.norm_epsilon
        normed_BLD = RMSNorm(epsilon, name="attention_norm")(x_BLD)
        x_BLD = x_BLD + self._attention(normed_BLD, rope, segments_BL)
        normed_BLD = RMSNorm(epsilon, name="mlp_norm")(x_BLD)
        x_BLD = x_BLD + self._mlp(normed_BLD)
        return _constrain(x_BLD, "batch", "length", "activation_embed"), None

    def _attention(self, x_BLD: jax.Array, rope: Rope, segments_BL: jax.Array | None) -> jax.Array:
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

        def split(kernel_DHK: jax.Array) -> jax.Array:
            flat = project(x_BLD, kernel_DHK.reshape(embed, -1))
            return flat.reshape(*x_BLD.shape[:2], *kernel_DHK.shape[1:])

        q_BLHK = _constrain(split(query_DHK), "batch", "length", "activation_heads", None)
        out_BLHK = self.attend(
            rotate(q_BLHK, rope), rotate(split(key_DGK), rope), split(value_DGK), segments_BL
        )
        out_BLHK = jax.ad_checkpoint.checkpoint_name(out_BLHK, ATTENTION_OUTPUT)
        return project(out_BLHK.reshape(x_BLD.shape), out_HKD.reshape(-1, embed))

    def _mlp(self, x_BLD: jax.Array) -> jax.Array:
        embed, mlp = self.config.embed_dim, self.config.mlp_dim
        gate_DF = self._kernel("gate", ("embed", "mlp"), (embed, mlp))
        up_DF = self._kernel("up", ("embed", "mlp"), (embed, mlp))
        down_FD = self._kernel("down", ("mlp", "embed"), (mlp, embed))
        hidden_BLF = swiglu(project(x_BLD, gate_DF), project(x_BLD, up_DF))
        hidden_BLF = _constrain(hidden_BLF, "batch", "length", "activation_mlp")
        return project(hidden_BLF, down_FD)

    def _kernel(
        self, name: str, axes: tuple[str, ...], shape: tuple[int, ...], inputs: int = 0
    ) -> jax.Array:
        """A float32 parameter, cast for the computation; its inputs are the first axis or given."""
        init = matrix_init(self.config, inputs or shape[0])
        return _parameter(self, name, init, axes, shape).astype(self.config.compute_dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with its own scale, which starts at one."""

    epsilon: float

    @nn.compact
    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        """Return an array of the shape and dtype of the input."""
        ones = nn.initializers.ones_init()
        scale_D = _parameter(self, "scale", ones, ("norm",), (x_BLD.shape[-1],))
        return rms_norm(x_BLD, scale_D, self.epsilon)


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


def matrix_init(config: ModelConfig, inputs: int) -> nn.initializers.Initializer:
    """How a matrix of so many inputs is first drawn (`ModelConfig.initialization`)."""
    if config.initialization == "normal":
        return nn.initializers.normal(config.init_scale)

    def cut_off(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.truncated_normal(key, -3.0, 3.0, shape, dtype) / math.sqrt(inputs)

    return cut_off


def _with_remat(layer: type[nn.Module], remat: str, *, prevent_cse: bool) -> type[nn.Module]:
    if remat == "none":
        return layer
    policies = jax.checkpoint_policies
    policy = policies.nothing_saveable
    if remat == "matmuls":
        policy = policies.save_from_both_policies(
            policies.dots_with_no_batch_dims_saveable,
            policies.save_from_both_policies(
                policies.save_only_these_names(ATTENTION_OUTPUT), _is_cudnn_attention
            ),
        )
    return nn.remat(layer, policy=policy, prevent_cse=prevent_cse)


def _is_cudnn_attention(primitive: Any, *_: Any, **__: Any) -> bool:
    """Whether an operation is cuDNN's forward pass: JAX gives its softmax statistics no name."""
    return primitive.name == "dot_product_attention_fwd_wrapper"


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
