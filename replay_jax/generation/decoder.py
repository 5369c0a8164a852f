"""The one decoder with an attention that is given: what its layers keep is put in and taken out.

The layers are those of training (`model.decoder.Layer`), with all that a variant does otherwise;
only rotation and attention are done here, as rows may stand at positions of their own.

Shape letters: B batch, L length, Q query positions, S key positions, D embed, H query heads, G
key/value heads, R = H / G, K head width, V vocabulary.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from replay_jax.model.architecture import LayerKind, ModelConfig
from replay_jax.model.blockwise import MASKED
from replay_jax.model.decoder import Layer, Params, RMSNorm
from replay_jax.model.layers import Rope, look_up, rope_tables, rotate, stacked_tables

# Queries [B, L, H, K], keys and values [B, L, G, K], all rotated, and what the layer has kept:
# values out [B, L, H, K], and what it keeps now.
Attend = Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]


def kinds_of(model: ModelConfig) -> list[LayerKind]:
    """The kinds of layers of a model, in the order in which they first occur."""
    return list(dict.fromkeys(model.layer_kinds))


def run_layers(
    model: ModelConfig,
    params: Params,
    tokens_BL: jax.Array,
    positions_BL: jax.Array,
    *,
    attends: Sequence[Attend],
    kept: Any,
    positions: int,
) -> tuple[jax.Array, Any]:
    """Final hidden states [B, L, D], normed, and what every layer keeps.

    Args:
        model: the model.
        params: its parameters.
        tokens_BL: token ids.
        positions_BL: where each stands in its text, from 0.
        attends: for each of `kinds_of`.
        kept: of every layer: a tuple of trees, or with `layer_loop` "scan" one tree whose leaves
            have a leading axis of layers. It comes back in the same form.
        positions: how many there are, at least the greatest of `positions_BL` + 1.
    """
    x_BLD = look_up(params["embedding"], tokens_BL).astype(model.compute_dtype)
    if model.block.scaled_embedding:
        x_BLD = x_BLD * jnp.asarray(math.sqrt(model.embed_dim), model.compute_dtype)
    x_BLD = nn.with_logical_constraint(x_BLD, ("batch", "length", "activation_embed"))
    kinds = kinds_of(model)
    of_layers = [kinds.index(kind) for kind in model.layer_kinds]
    ropes = [_rope_at(kind, model.head_dim, positions_BL, positions) for kind in kinds]
    if model.layer_loop == "scan":
        x_BLD, kept = _scanned(model, params["layers"], x_BLD, kept, ropes, attends, of_layers)
    else:
        found = []
        for number, (kind, old) in enumerate(zip(of_layers, kept, strict=True)):
            own = params[f"layer_{number}"]
            x_BLD, new = _layer(model, own, x_BLD, old, ropes[kind], attends[kind])
            found.append(new)
        kept = tuple(found)
    norm = RMSNorm(model.norm_epsilon, model.block.centred_norms)
    normed_BLD = norm.apply({"params": params["final_norm"]}, x_BLD)
    assert isinstance(normed_BLD, jax.Array)
    return normed_BLD, kept


def attend_to(
    q_BQHK: jax.Array,
    k_BGSK: jax.Array,
    v_BGSK: jax.Array,
    allowed_BQS: jax.Array,
    scale: float | None,
) -> jax.Array:
    """Attend to what is allowed, softmax in float32: values [B, Q, H, K].

    Keys have their heads before their positions, as a cache holds them: one query reads them
    without moving them.
    """
    batch, length, heads, width = q_BQHK.shape
    groups = k_BGSK.shape[1]
    q_BGRQK = q_BQHK.reshape(batch, length, groups, heads // groups, width).transpose(0, 2, 3, 1, 4)
    scores_BGRQS = jnp.einsum(
        "BGRQK,BGSK->BGRQS", q_BGRQK, k_BGSK, preferred_element_type=jnp.float32
    )
    scores_BGRQS = scores_BGRQS * (width**-0.5 if scale is None else scale)
    scores_BGRQS = jnp.where(allowed_BQS[:, None, None], scores_BGRQS, MASKED)
    weights_BGRQS = jax.nn.softmax(scores_BGRQS, axis=-1).astype(v_BGSK.dtype)
    out_BGRQK = jnp.einsum("BGRQS,BGSK->BGRQK", weights_BGRQS, v_BGSK)
    return out_BGRQK.transpose(0, 3, 1, 2, 4).reshape(q_BQHK.shape)


def score_scale(model: ModelConfig) -> float | None:
    """What scores are multiplied by; None for 1 / sqrt(K)."""
    scalar = model.block.query_scalar
    return scalar**-0.5 if scalar else None


def computed(params: Params, model: ModelConfig) -> Params:
    """Parameters in the dtype that they are computed in, but for norms, whose scales stay float32.

    Done once before a loop: each of its steps would cast all of them again.
    """

    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf if path[-1].key == "scale" else leaf.astype(model.compute_dtype)

    found: Params = jax.tree_util.tree_map_with_path(cast, params)
    return found


def _rope_at(kind: LayerKind, width: int, positions_BL: jax.Array, positions: int) -> Rope | None:
    """Cosines and sines [B, L, K/2] at given positions; None where nothing is rotated."""
    if kind.rope is None:
        return None
    cos, sin = rope_tables(kind.rope, width, positions)
    return cos[positions_BL], sin[positions_BL]


def _rotate(x_BLHK: jax.Array, rope: Rope | None) -> jax.Array:
    if rope is None:
        return x_BLHK
    return jax.vmap(lambda x, cos, sin: rotate(x[None], (cos, sin))[0])(x_BLHK, *rope)


def _layer(
    model: ModelConfig,
    params: Params,
    x_BLD: jax.Array,
    kept: Any,
    rope: Rope | None,
    attend: Attend,
) -> tuple[jax.Array, Any]:
    """One layer; it leaves rotation to the attention that it is given."""
    found = []

    def rotated(
        q_BLHK: jax.Array, k_BLGK: jax.Array, v_BLGK: jax.Array, _: jax.Array | None
    ) -> jax.Array:
        out_BLHK, new = attend(_rotate(q_BLHK, rope), _rotate(k_BLGK, rope), v_BLGK, kept)
        found.append(new)
        return out_BLHK

    x_BLD, _ = Layer(model, (rotated,)).apply({"params": params}, x_BLD, None, None, None)
    return x_BLD, found[0]


def _scanned(
    model: ModelConfig,
    params: Params,
    x_BLD: jax.Array,
    kept: Any,
    ropes: Sequence[Rope | None],
    attends: Sequence[Attend],
    of_layers: Sequence[int],
) -> tuple[jax.Array, Any]:
    """The same for layers that are behind each other in their parameters' first axis."""
    tables = stacked_tables(ropes) if len(ropes) > 1 else None

    def one(x_BLD: jax.Array, layer: tuple[Params, Any, jax.Array]) -> tuple[jax.Array, Any]:
        own, old, kind = layer
        if len(attends) == 1:
            return _layer(model, own, x_BLD, old, ropes[0], attends[0])
        rope = jax.tree.map(lambda table: table[kind], tables)
        chosen = functools.partial(jax.lax.switch, kind, tuple(attends))
        return _layer(model, own, x_BLD, old, rope, chosen)

    return jax.lax.scan(one, x_BLD, (params, kept, jnp.asarray(of_layers)))
