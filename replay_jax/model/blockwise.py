"""Causal attention in plain XLA that skips what lies above the diagonal: the form for CPU.

Queries are taken block by block against the keys that they may see, so about half of the square
is never computed, and with a window little outside its band; on CPU rows of the batch are taken
one at a time, so that a block's scores stay in the cache, elsewhere all at once. The backward pass
recomputes the scores from the saved log-sum-exp (flash attention, 2205.14135) and works on their
transpose, and gathers the gradient of the queries transposed too: so no matrix product has a large
transposed operand. What was measured: docs/performance.md.

Shape letters: B batch, L length, G key/value heads, R query heads per key/value head, K head
width, Q queries and S keys of a block, T = R x Q.
"""

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from replay_jax.model.ordering import after

MASKED = -1e30  # vanishes after the softmax, finite in float32 and bfloat16
ATTENTION_OUTPUT = "attention_output"  # checkpoint name of what is saved for the backward pass

# Measured on CPU at L = 512: blocks of 64 to 256 are within 5 % of each other.
_BLOCK = 128
_MOST_BLOCKS = 8  # every block is compiled, so long sequences get larger blocks

Saved = tuple[jax.Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def blockwise(
    q_BGRLK: jax.Array,
    k_BGLK: jax.Array,
    v_BGLK: jax.Array,
    segments_BL: jax.Array | None,
    window: int,
) -> jax.Array:
    """Return softmax(q k^T) v under the causal and segment mask; queries come scaled.

    With a `window` a query sees that many positions at most, its own included; 0 for all.
    """
    return _forward(q_BGRLK, k_BGLK, v_BGLK, segments_BL, window)[0]


def _forward(
    q_BGRLK: jax.Array,
    k_BGLK: jax.Array,
    v_BGLK: jax.Array,
    segments_BL: jax.Array | None,
    window: int,
) -> tuple[jax.Array, tuple[jax.Array | None, ...]]:
    rows = (q_BGRLK, k_BGLK, v_BGLK, segments_BL)
    out_BGRLK, lse_BGRL = _over_rows(functools.partial(_forward_row, window=window), rows)
    out_BGRLK = checkpoint_name(out_BGRLK, ATTENTION_OUTPUT)
    lse_BGRL = checkpoint_name(lse_BGRL, ATTENTION_OUTPUT)
    return out_BGRLK, (*rows, out_BGRLK, lse_BGRL)


def _backward(
    window: int, saved: tuple[jax.Array | None, ...], dout_BGRLK: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    *rows, out_BGRLK, lse_BGRL = saved
    assert out_BGRLK is not None and lse_BGRL is not None
    along_BGRL = _row_sums(out_BGRLK.astype(jnp.float32) * dout_BGRLK.astype(jnp.float32))
    of_row = functools.partial(_backward_row, window=window)
    return (*_over_rows(of_row, (*rows, along_BGRL, lse_BGRL, dout_BGRLK)), None)


blockwise.defvjp(_forward, _backward)


def _over_rows(function, rows):  # type: ignore[no-untyped-def]
    """Apply a function of one row's arrays to every row of the batch, on CPU in turn."""

    def in_turn(rows):  # type: ignore[no-untyped-def]
        return jax.lax.map(lambda row: function(*row), rows)

    def at_once(rows):  # type: ignore[no-untyped-def]
        return jax.vmap(lambda row: function(*row))(rows)

    return jax.lax.platform_dependent(rows, cpu=in_turn, default=at_once)


def _blocks(length: int) -> list[tuple[int, int]]:
    """Starts and ends of the blocks; the last may be short."""
    share = -(-length // _MOST_BLOCKS)
    size = max(_BLOCK, -(-share // _BLOCK) * _BLOCK)
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def _forward_row(
    q_GRLK: jax.Array,
    k_GLK: jax.Array,
    v_GLK: jax.Array,
    segments_L: jax.Array | None,
    *,
    window: int,
) -> tuple[jax.Array, jax.Array]:
    """Outputs and log-sum-exp of the scores [G, R, L] of one row."""
    (groups, repeats, length, width) = q_GRLK.shape
    outs, lses = [], []
    for start, end in _blocks(length):
        q_GTK = q_GRLK[:, :, start:end].reshape(groups, -1, width)
        first = max(0, start - window + 1) if window else 0
        allowed_QS = jnp.tril(jnp.ones((end - start, end - first), bool), start - first)
        if window:
            allowed_QS = jnp.triu(allowed_QS, start - first - window + 1)
        if segments_L is not None:
            allowed_QS &= segments_L[start:end, None] == segments_L[None, first:end]
        allowed_1TS = jnp.tile(allowed_QS, (repeats, 1))[None]
        scores_GTS = _dot("GTK,GSK->GTS", q_GTK, k_GLK[:, first:end])
        scores_GTS = jnp.where(allowed_1TS, scores_GTS, MASKED)
        most_GT1 = jnp.max(scores_GTS, axis=-1, keepdims=True)
        weights_GTS = jnp.exp(scores_GTS - most_GT1)
        sum_GT1 = jnp.sum(weights_GTS, axis=-1, keepdims=True)
        v_GSK = v_GLK[:, first:end]
        out_GTK = _dot("GTS,GSK->GTK", weights_GTS.astype(v_GLK.dtype), v_GSK) / sum_GT1
        shape = (groups, repeats, end - start, width)
        outs.append(out_GTK.astype(v_GLK.dtype).reshape(shape))
        lses.append((most_GT1 + jnp.log(sum_GT1)).reshape(shape[:3]))
    return jnp.concatenate(outs, axis=2), jnp.concatenate(lses, axis=2)


def _backward_row(
    q_GRLK: jax.Array,
    k_GLK: jax.Array,
    v_GLK: jax.Array,
    segments_L: jax.Array | None,
    along_GRL: jax.Array,
    lse_GRL: jax.Array,
    dout_GRLK: jax.Array,
    *,
    window: int,
) -> Saved:
    """Gradients of queries, keys and values of one row, by blocks of keys from the last."""
    (groups, repeats, length, width), dtype = q_GRLK.shape, q_GRLK.dtype
    dq_GRKL = jnp.zeros((groups, repeats, width, 0), jnp.float32)
    k_GKL = jnp.swapaxes(k_GLK, 1, 2)
    dks, dvs = [], []
    for start, end in reversed(_blocks(length)):
        stop = min(length, end + window - 1) if window else length
        # The heads of a group lie behind each other along T: one plain product for each group.
        # A batch of one row has its loop unrolled, so the scores would not wait by themselves.
        q_GTK = after(q_GRLK[:, :, start:stop], along_GRL[0, 0, 0]).reshape(groups, -1, width)
        dout_GTK = dout_GRLK[:, :, start:stop].reshape(groups, -1, width)
        lse_G1T = lse_GRL[:, :, start:stop].reshape(groups, 1, -1)
        along_G1T = along_GRL[:, :, start:stop].reshape(groups, 1, -1)
        allowed_SQ = jnp.triu(jnp.ones((end - start, stop - start), bool))
        if window:
            allowed_SQ = jnp.tril(allowed_SQ, window - 1)
        if segments_L is not None:
            allowed_SQ &= segments_L[start:end, None] == segments_L[None, start:stop]
        allowed_1ST = jnp.tile(allowed_SQ, (1, repeats))[None]
        scores_GST = _dot("GSK,GTK->GST", k_GLK[:, start:end], q_GTK)
        weights_GST = jnp.where(allowed_1ST, jnp.exp(scores_GST - lse_G1T), 0.0)
        dweights_GST = _dot("GSK,GTK->GST", v_GLK[:, start:end], dout_GTK)
        dscores_GST = (weights_GST * (dweights_GST - along_G1T)).astype(dtype)
        dvs.append(_dot("GST,GTK->GSK", weights_GST.astype(dtype), dout_GTK).astype(dtype))
        dks.append(_dot("GST,GTK->GSK", dscores_GST, q_GTK).astype(dtype))
        new_GKT = _dot("GKS,GST->GKT", k_GKL[:, :, start:end], dscores_GST)
        new_GRKQ = new_GKT.reshape(groups, width, repeats, stop - start).swapaxes(1, 2)
        head, rest = new_GRKQ[..., : end - start], new_GRKQ[..., end - start :]
        beyond = [dq_GRKL[..., stop - end :]] if window else []
        dq_GRKL = jnp.concatenate([head, rest + dq_GRKL[..., : stop - end], *beyond], axis=3)
    dk_GLK, dv_GLK = (jnp.concatenate(parts[::-1], axis=1) for parts in (dks, dvs))
    return jnp.swapaxes(dq_GRKL, 2, 3).astype(dtype), dk_GLK, dv_GLK


def _row_sums(x_BGRLK: jax.Array) -> jax.Array:
    """Sum the last axis by a matrix product: XLA on CPU is slow at reducing short rows."""
    ones_K1 = jnp.ones((x_BGRLK.shape[-1], 1), x_BGRLK.dtype)
    return (x_BGRLK.reshape(-1, len(ones_K1)) @ ones_K1).reshape(x_BGRLK.shape[:-1])


def _dot(equation: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)
