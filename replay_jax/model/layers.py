"""The pieces of a layer that are not attention, with backward passes written by hand.

Written out because automatic differentiation keeps every intermediate of these and walks over the
activations once for each; by hand only the inputs are kept and the walks are fused.

Shape letters: N tokens (batch x length), D embed, F mlp, B batch, L length, H heads, K head width,
X inputs and Y outputs of a matrix, R rank of its adapter.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from replay_jax.model.architecture import ModelConfig, RopeConfig
from replay_jax.model.lora import DOWN, UP
from replay_jax.model.ordering import after

Rope = tuple[jax.Array, jax.Array]


def project(x_ND: jax.Array, kernel_DF: jax.Array) -> jax.Array:
    """Multiply the last axis by a matrix, as one plain two-dimensional product.

    Leading axes are flattened first: XLA on CPU physically transposes operands whose contraction
    runs over two axes, as the gradient of a three-dimensional product would
    (docs/performance.md).
    """
    flat_ND = x_ND.reshape(-1, x_ND.shape[-1])
    return (flat_ND @ kernel_DF).reshape(*x_ND.shape[:-1], kernel_DF.shape[-1])


def product(
    module: nn.Module,
    name: str,
    x_NX: jax.Array,
    kernel: jax.Array,
    axes: tuple[str, ...],
    *,
    inputs: int = 1,
) -> jax.Array:
    """Multiply the last axis by a matrix, and add what its adapter makes of it.

    Args:
        module: the layer, in its own call: its `config` says which matrices have adapters, and
            theirs are its parameters.
        name: of the matrix.
        x_NX: what goes in; any leading axes.
        kernel: the matrix in the dtype of the computation; several axes may be its inputs, and
            several its outputs.
        axes: logical names of the kernel's axes.
        inputs: how many of them, from the first, are inputs.

    Returns:
        [N, Y], the outputs flat.
    """
    width = math.prod(kernel.shape[:inputs])
    y_NY = project(x_NX, kernel.reshape(width, -1))
    config: ModelConfig = module.config  # type: ignore[attr-defined]
    lora = config.lora
    if lora is None or name not in lora.matrices:
        return y_NY
    narrow, wide = kernel.shape[:inputs], kernel.shape[inputs:]
    near = _uniform(1.0 / math.sqrt(width))
    down = parameter(module, name + DOWN, near, (*axes[:inputs], None), (*narrow, lora.rank))
    zeros = nn.initializers.zeros_init()
    up = parameter(module, name + UP, zeros, (None, *axes[inputs:]), (lora.rank, *wide))
    h_NR = project(x_NX, down.reshape(width, -1).astype(x_NX.dtype))
    return y_NY + project(lora.scale * h_NR, up.reshape(lora.rank, -1).astype(x_NX.dtype))


def kept_products(config: ModelConfig) -> Callable[..., bool]:
    """Which products rematerialisation keeps: those of matrices, not those that widen a rank.

    What an adapter adds is as large as what it is added to, and formed again for next to nothing.
    """
    every = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    if config.lora is None:
        return every
    rank = config.lora.rank

    def policy(primitive: Any, *operands: Any, **parameters: Any) -> bool:
        if not every(primitive, *operands, **parameters):
            return False
        (contracted, _), _ = parameters["dimension_numbers"]
        return bool(operands[0].shape[contracted[0]] != rank)

    return policy


@jax.custom_vjp
def look_up(table_VD: jax.Array, tokens_BL: jax.Array) -> jax.Array:
    """Return the rows of a table at token ids: [B, L, D]."""
    return jnp.take(table_VD, tokens_BL, axis=0)


def _look_up_forward(
    table_VD: jax.Array, tokens_BL: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return look_up(table_VD, tokens_BL), (table_VD, tokens_BL)


def _look_up_backward(
    saved: tuple[jax.Array, jax.Array], dout_BLD: jax.Array
) -> tuple[jax.Array, None]:
    table_VD, tokens_BL = saved
    zero = after(jnp.zeros((), table_VD.dtype), dout_BLD[0, 0, 0])
    return jnp.full_like(table_VD, zero).at[tokens_BL].add(dout_BLD), None


look_up.defvjp(_look_up_forward, _look_up_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rms_norm(x_D: jax.Array, scale_D: jax.Array, epsilon: float) -> jax.Array:
    """Divide by the root mean square of the last axis, in float32, and scale (1910.07467)."""
    return _rms_norm_forward(x_D, scale_D, epsilon)[0]


def _rms_norm_forward(
    x_D: jax.Array, scale_D: jax.Array, epsilon: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, jax.Array]]:
    x32_D = x_D.astype(jnp.float32)
    inverse_1 = jax.lax.rsqrt(jnp.mean(jnp.square(x32_D), axis=-1, keepdims=True) + epsilon)
    out_D = (x32_D * inverse_1 * _rows(scale_D, x_D)).astype(x_D.dtype)
    return out_D, (x_D, scale_D, inverse_1)


def _rms_norm_backward(
    epsilon: float, saved: tuple[jax.Array, jax.Array, jax.Array], dout_D: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x_D, scale_D, inverse_1 = saved
    x32_D, dout32_D = x_D.astype(jnp.float32), dout_D.astype(jnp.float32)
    dnormed_D = dout32_D * _rows(scale_D, x_D)
    along_1 = jnp.sum(dnormed_D * x32_D, axis=-1, keepdims=True) / x_D.shape[-1]
    dx_D = inverse_1 * dnormed_D - x32_D * (along_1 * inverse_1**3)
    dscale_D = jnp.sum(dout32_D * x32_D * inverse_1, axis=tuple(range(x_D.ndim - 1)))
    return dx_D.astype(x_D.dtype), dscale_D


rms_norm.defvjp(_rms_norm_forward, _rms_norm_backward)


@jax.custom_vjp
def swiglu(gate_F: jax.Array, up_F: jax.Array) -> jax.Array:
    """silu(gate) * up, elementwise (GLU variants, 2002.05202)."""
    return jax.nn.silu(gate_F) * up_F


def _swiglu_forward(
    gate_F: jax.Array, up_F: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return swiglu(gate_F, up_F), (gate_F, up_F)


def _swiglu_backward(
    saved: tuple[jax.Array, jax.Array], dout_F: jax.Array
) -> tuple[jax.Array, jax.Array]:
    gate_F, up_F = saved
    sigmoid_F = jax.nn.sigmoid(after(gate_F, dout_F))
    dgate_F = dout_F * up_F * sigmoid_F * (1 + gate_F * (1 - sigmoid_F))
    return dgate_F, dout_F * gate_F * sigmoid_F


swiglu.defvjp(_swiglu_forward, _swiglu_backward)


@jax.custom_vjp
def geglu(gate_F: jax.Array, up_F: jax.Array) -> jax.Array:
    """gelu(gate) * up, elementwise, with the tanh form of gelu (GLU variants, 2002.05202)."""
    return jax.nn.gelu(gate_F, approximate=True) * up_F


def _geglu_forward(
    gate_F: jax.Array, up_F: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return geglu(gate_F, up_F), (gate_F, up_F)


def _geglu_backward(
    saved: tuple[jax.Array, jax.Array], dout_F: jax.Array
) -> tuple[jax.Array, jax.Array]:
    gate_F, up_F = saved
    gelu_F, pull = jax.vjp(jax.nn.gelu, after(gate_F, dout_F))
    return pull(dout_F * up_F)[0], dout_F * gelu_F


geglu.defvjp(_geglu_forward, _geglu_backward)


def places(keys_B2: jax.Array, count: int) -> jax.Array:
    """Keys of so many places of dropout, [count, B, 2], of those of the rows (uint32, threefry)."""

    split = jax.vmap(lambda key: jax.random.split(key, count), out_axes=1)
    return jax.random.key_data(split(jax.random.wrap_key_data(keys_B2)))


def dropped(x_BLD: jax.Array, keys_B2: jax.Array | None, rate: float) -> jax.Array:
    """Zero numbers with probability `rate`, divide the others by 1 - rate (1207.0580).

    Each row's by its own key; without keys all stays as it is.
    """
    if keys_B2 is None:
        return x_BLD

    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, x_BLD.shape[1:]))
    return jnp.where(keep(jax.random.wrap_key_data(keys_B2)), x_BLD / (1 - rate), 0)


def rope_frequencies(config: RopeConfig, head_dim: int) -> np.ndarray:
    """Return the K/2 angles per position, in radians (RoPE, 2104.09864; `RopeConfig`)."""
    frequencies = config.theta ** -(np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if config.scaling == "none":
        return frequencies
    if config.scaling == "linear":
        return frequencies / config.factor
    kept = (
        _kept_by_pair(config, head_dim) if config.scaling == "yarn" else _kept(config, frequencies)
    )
    return frequencies * (kept + (1 - kept) / config.factor)


def _kept(config: RopeConfig, frequencies: np.ndarray) -> np.ndarray:
    """Llama 3.1: how much of each frequency stays as it is, by its turns in the old length."""
    turns = config.original_length * frequencies / (2 * np.pi)
    kept = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    return np.clip(kept, 0.0, 1.0)


def _kept_by_pair(config: RopeConfig, head_dim: int) -> np.ndarray:
    """YaRN: the same by the pair's number, between whole numbers (2309.00071, its code)."""

    def pair(turns: float) -> float:
        positions = config.original_length / (turns * 2 * math.pi)
        return head_dim * math.log(positions) / (2 * math.log(config.theta))

    first = max(math.floor(pair(config.high_freq_factor)), 0)
    last = min(math.ceil(pair(config.low_freq_factor)), head_dim - 1)
    width = max(last - first, 1e-3)
    return 1.0 - np.clip((np.arange(head_dim // 2) - first) / width, 0.0, 1.0)


def rope_tables(config: RopeConfig, head_dim: int, length: int) -> Rope:
    """Return cosines and sines [L, K/2] in float32 for positions 0 to L - 1."""
    angles = np.arange(length)[:, None] * rope_frequencies(config, head_dim)[None]
    cos, sin = np.cos(angles) * config.size, np.sin(angles) * config.size
    return jnp.asarray(cos, jnp.float32), jnp.asarray(sin, jnp.float32)


def stacked_tables(ropes: Sequence[Rope | None]) -> Rope | None:
    """Tables of kinds of layers behind each other; those of None leave every pair as it is."""
    some = next((rope for rope in ropes if rope is not None), None)
    if some is None:
        return None
    whole = [rope or (jnp.ones_like(some[0]), jnp.zeros_like(some[1])) for rope in ropes]
    cos, sin = (jnp.stack(tables) for tables in zip(*whole, strict=True))
    return cos, sin


def rotate(x_BLHK: jax.Array, rope: Rope | None) -> jax.Array:
    """Turn each pair (k, k + K/2) by its position's angle, in float32 (Llama's half split)."""
    if rope is None:
        return x_BLHK
    cos, sin = (table[None, :, None] for table in rope)
    low, high = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
    return turned.astype(x_BLHK.dtype)


def _rows(scale_D: jax.Array, x_D: jax.Array) -> jax.Array:
    """Give a vector as many leading axes as `x_D` has."""
    return scale_D.reshape((1,) * (x_D.ndim - 1) + scale_D.shape)


def _uniform(bound: float) -> nn.initializers.Initializer:
    """How PEFT draws the first matrix; the second is zero, so training begins from the model."""

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def parameter(
    module: nn.Module,
    name: str,
    init: nn.initializers.Initializer,
    axes: tuple[str | None, ...],
    shape: tuple[int, ...],
) -> Any:
    """Declare a float32 parameter with its logical axes."""
    return module.param(name, nn.with_logical_partitioning(init, axes), shape)
