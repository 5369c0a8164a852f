"""Keys and values of what was read and said so far: `prefill` a prompt, then `decode_step`.

Rows of unequal length end together: a shorter one has padding before its first token, so that all
write the same slot. A position is a slot less the padding before it.

Shape letters: B batch, P prompt, S slots, D embed, G key/value heads, K head width, V vocabulary,
N layers.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from replay_jax.generation.decoder import Attend, attend_to, kinds_of, run_layers, score_scale
from replay_jax.model.architecture import LayerKind, ModelConfig
from replay_jax.model.attention import make_attention
from replay_jax.model.decoder import Params, head_kernel
from replay_jax.model.placement import Placement

KeysValues = tuple[jax.Array, jax.Array]


class Cache(flax.struct.PyTreeNode):
    """What the layers keep of a text.

    Attributes:
        layers: keys and values [B, G, S, K] of every layer in the compute dtype; with
            `layer_loop` "scan" one pair with a leading axis of layers.
        first_B: the slot of each row's first token.
        filled: how many slots hold a token, the same for all rows.
    """

    layers: Any
    first_B: jax.Array
    filled: jax.Array


def prefill(
    model: ModelConfig,
    params: Params,
    prompt_BP: jax.Array,
    first_B: jax.Array,
    *,
    slots: int,
    platform: str,
    placement: Placement | None = None,
) -> tuple[jax.Array, Cache]:
    """Read prompts: the final hidden states [B, P, D], and a cache with room for `slots` tokens.

    Args:
        model: the model.
        params: its parameters.
        prompt_BP: token ids, padded at the left.
        first_B: where each row's own tokens begin.
        slots: at least P.
        platform: chooses the attention ("cpu", "gpu", "tpu").
        placement: how a mesh of several devices splits rows and heads.
    """
    length = prompt_BP.shape[1]
    positions_BP = jnp.arange(length)[None] - first_B[:, None]
    # Padding attends to padding: its rows of scores are then never empty.
    segments_BP = (positions_BP >= 0).astype(jnp.int32)
    attends = [
        prompt_attention(model, kind, segments_BP, platform=platform, placement=placement)
        for kind in kinds_of(model)
    ]
    hidden_BPD, kept = run_layers(
        model, params, prompt_BP, jnp.maximum(positions_BP, 0),
        attends=attends, kept=nothing_kept(model), positions=length,
    )  # fmt: skip

    def widen(kept_BGPK: jax.Array) -> jax.Array:
        pad = [(0, 0)] * (kept_BGPK.ndim - 2) + [(0, slots - length), (0, 0)]
        return jnp.pad(kept_BGPK, pad)

    filled = jnp.asarray(length, jnp.int32)
    return hidden_BPD, Cache(jax.tree.map(widen, kept), first_B, filled)


def decode_step(
    model: ModelConfig, params: Params, tokens_B: jax.Array, cache: Cache
) -> tuple[jax.Array, Cache]:
    """Put one token behind each row: the hidden states after it [B, D], and the new cache."""
    slots = jax.tree.leaves(cache.layers)[0].shape[-2]
    attends = [_cached_attention(model, kind, cache, slots) for kind in kinds_of(model)]
    hidden_B1D, layers = run_layers(
        model, params, tokens_B[:, None], (cache.filled - cache.first_B)[:, None],
        attends=attends, kept=cache.layers, positions=slots,
    )  # fmt: skip
    return hidden_B1D[:, 0], cache.replace(layers=layers, filled=cache.filled + 1)


def logits(params: Params, hidden_BD: jax.Array) -> jax.Array:
    """Logits [B, V] in float32 of final hidden states."""
    head_DV = head_kernel(params).astype(hidden_BD.dtype)
    return jnp.matmul(hidden_BD, head_DV, preferred_element_type=jnp.float32)


def prompt_attention(
    model: ModelConfig,
    kind: LayerKind,
    segments_BL: jax.Array | None,
    *,
    platform: str,
    placement: Placement | None,
) -> Attend:
    """The attention of training on a whole text; it keeps the keys and values [B, G, L, K]."""
    attend = make_attention(
        model.attention, platform=platform, placement=placement, window=kind.window,
        scale=score_scale(model),
    )  # fmt: skip

    def keep(
        q_BLHK: jax.Array, k_BLGK: jax.Array, v_BLGK: jax.Array, _: Any
    ) -> tuple[jax.Array, KeysValues]:
        out_BLHK = attend(q_BLHK, k_BLGK, v_BLGK, segments_BL)
        return out_BLHK, (heads_first(k_BLGK), heads_first(v_BLGK))

    return keep


def nothing_kept(model: ModelConfig) -> Any:
    """Of every layer nothing, in the form of `run_layers`."""
    return None if model.layer_loop == "scan" else (None,) * model.num_layers


def heads_first(x_BLGK: jax.Array) -> jax.Array:
    """Keys or values as a cache holds them: [B, G, L, K]."""
    return nn.with_logical_constraint(
        x_BLGK.transpose(0, 2, 1, 3), ("batch", "activation_heads", None, None)
    )


def _cached_attention(model: ModelConfig, kind: LayerKind, cache: Cache, slots: int) -> Attend:
    """One token's attention to all before it, which writes its keys and values into the cache."""
    slot_1S = jnp.arange(slots)[None]
    allowed_BS = (slot_1S >= cache.first_B[:, None]) & (slot_1S <= cache.filled)
    if kind.window:
        allowed_BS = allowed_BS & (slot_1S > cache.filled - kind.window)

    def attend(
        q_B1HK: jax.Array, k_B1GK: jax.Array, v_B1GK: jax.Array, kept: KeysValues
    ) -> tuple[jax.Array, KeysValues]:
        k_BGSK, v_BGSK = (
            jax.lax.dynamic_update_slice_in_dim(old, heads_first(new), cache.filled, axis=2)
            for old, new in zip(kept, (k_B1GK, v_B1GK), strict=True)
        )
        out_B1HK = attend_to(q_B1HK, k_BGSK, v_BGSK, allowed_BS[:, None], score_scale(model))
        return out_B1HK, (k_BGSK, v_BGSK)

    return attend
