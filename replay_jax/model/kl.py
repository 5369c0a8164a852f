"""Training loss in which some rows are held to a base model in place of their next tokens.

A label of such a row costs KL(base || model) = sum over v of q(v) (ln q(v) - ln p(v)) nats, q and p
being what the base and the model expect to come next: distillation (Hinton et al. 2015, arXiv
1503.02531, at temperature 1) from the model that training began with, which keeps what it knew as
Learning without Forgetting does (Li and Hoiem 2016, arXiv 1606.09282). Both are formed chunk by
chunk with their gradients, as in `loss`, so that neither model's logits exist at once.

Shape letters as in `loss`: B batch, L length, C positions of a chunk, N = B x C, D embed, V
vocabulary (a device's own part of it where the vocabulary is split).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from replay_jax.model.collectives import Collectives
from replay_jax.model.label_terms import at_labels, hits
from replay_jax.model.loss import join_chunks, split_chunks
from replay_jax.model.placement import Placement


class Base(NamedTuple):
    """Final hidden states [B, L, D] and head [D, V] of the base, and the rows [B] held to it."""

    x_BLD: jax.Array
    head_DV: jax.Array
    held_B: jax.Array


def held_loss(
    x_BLD: jax.Array,
    head_DV: jax.Array,
    labels_BL: jax.Array,
    weights_BL: jax.Array,
    base: Base,
    *,
    chunk: int,
    placement: Placement | None = None,
    trains_head: bool = True,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return sum(weights * cost), and of every token its nats and its KL [B, L].

    The cost is the KL in rows that are held to the base and the nats in all others; the sum is
    float32 and differentiable in `x_BLD` and `head_DV`, of which the gradient in the logits is
    softmax(model) - softmax(base), or less the label. All else is as in `loss.weighted_loss`.
    """
    settings = _Settings(chunk, placement, trains_head)
    arguments = jax.lax.stop_gradient((weights_BL, base))
    total, *by_token = _held_loss(settings, x_BLD, head_DV, labels_BL, *arguments)
    nats_BL, kl_BL = jax.lax.stop_gradient(by_token)
    return total, nats_BL, kl_BL


class _Settings(NamedTuple):
    chunk: int
    placement: Placement | None
    trains_head: bool


class _Chunk(NamedTuple):
    """What the logits of a chunk cost, and the gradient of that in them."""

    nats_BC: jax.Array
    kl_BC: jax.Array
    cost_BC: jax.Array
    dlogits_BCV: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _held_loss(  # type: ignore[no-untyped-def]
    settings: _Settings, x_BLD, head_DV, labels_BL, weights_BL, base: Base
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _sums(settings, False, x_BLD, head_DV, labels_BL, weights_BL, base)[0]


def _forward(settings: _Settings, *arguments):  # type: ignore[no-untyped-def]
    found, gradients = _sums(settings, True, *arguments)
    # Summed over the mesh before the layers' backward pass starts, as in `loss`.
    return found, jax.lax.optimization_barrier(gradients)


def _backward(settings: _Settings, gradients, cotangents):  # type: ignore[no-untyped-def]
    (dx_BLD, dhead_DV), scale = gradients, cotangents[0]
    dhead_DV = jax.tree.map(lambda whole: whole * scale, dhead_DV)
    return (dx_BLD * scale).astype(dx_BLD.dtype), dhead_DV, None, None, None


_held_loss.defvjp(_forward, _backward)


def _sums(  # type: ignore[no-untyped-def]
    settings: _Settings, with_gradients: bool, x_BLD, head_DV, labels_BL, weights_BL, base: Base
):
    """Return (total, nats, KL) and the gradients of the total (None unless asked for)."""
    placed = Collectives(settings.placement)
    with_head = with_gradients and settings.trains_head

    def local(head_DV, base_head_DV, *operands):  # type: ignore[no-untyped-def]
        kernels = tuple(each.astype(x_BLD.dtype) for each in (head_DV, base_head_DV))

        def one(dhead_DV, each):  # type: ignore[no-untyped-def]
            chunk, weights_BC = _chunk(kernels, each, placed), each[3]
            told = (chunk.nats_BC, chunk.kl_BC, jnp.sum(chunk.cost_BC * weights_BC))
            if not with_gradients:
                return dhead_DV, (*told, None)
            dx_BCD, new_DV = _gradients(chunk, weights_BC, each[0], kernels[0], placed)
            if with_head:
                dhead_DV = new_DV if dhead_DV is None else dhead_DV + new_DV
            return dhead_DV, (*told, dx_BCD)

        length = labels_BL.shape[1]
        if settings.chunk == length:
            dhead_DV, (nats_BL, kl_BL, total, dx_BLD) = one(None, operands)
        else:
            start = placed.zeros_like_head(head_DV) if with_head else None
            chunks = tuple(split_chunks(operand, settings.chunk) for operand in operands)
            dhead_DV, (nats, kl, totals, dx) = jax.lax.scan(one, start, chunks)
            nats_BL, kl_BL = join_chunks(nats, length), join_chunks(kl, length)
            total, dx_BLD = jnp.sum(totals), join_chunks(dx, length) if with_gradients else None
        total = placed.sum_over_batch(total)
        return (total, nats_BL, kl_BL), (dx_BLD, placed.reduce_head(dhead_DV))

    rows, hidden, head = placed.rows, placed.hidden, placed.head
    gradients = (hidden if with_gradients else None, placed.dhead if with_head else None)
    in_specs = (head, head, hidden, hidden, rows, rows, rows)
    held_BL = jnp.broadcast_to(base.held_B[:, None], labels_BL.shape)
    operands = (x_BLD, base.x_BLD, labels_BL, weights_BL, held_BL)
    run = placed.run(local, in_specs, ((PartitionSpec(), rows, rows), gradients))
    return run(head_DV, base.head_DV, *operands)


def _chunk(  # type: ignore[no-untyped-def]
    kernels: tuple[jax.Array, jax.Array], each, placed: Collectives
) -> _Chunk:
    """Costs of a chunk: states of the model and of the base, labels, weights, whether held."""
    x_BCD, base_x_BCD, labels_BC, _, held_BC = each
    log_BCV, base_log_BCV = (
        _log_shares(states, kernel, placed)
        for states, kernel in zip((x_BCD, base_x_BCD), kernels, strict=True)
    )
    width = log_BCV.shape[-1]
    log_NV, labels_N = log_BCV.reshape(-1, width), labels_BC.reshape(-1)
    if placed.vocab_axis:
        labels_N = labels_N - jax.lax.axis_index(placed.vocab_axis) * width
    nats_N = -placed.sum_over_vocab(at_labels(log_NV, labels_N))
    nats_BC = nats_N.reshape(labels_BC.shape)
    kl_BC = placed.sum_over_vocab(jnp.sum(_kl_terms(log_BCV, base_log_BCV), axis=-1))
    share_BCV, base_BCV = jnp.exp(log_BCV), jnp.exp(base_log_BCV)
    # At a label p - 1 is formed from the nats, which keep the digits of a share near 1.
    from_label_BCV = jnp.where(
        hits(log_NV, labels_N).reshape(share_BCV.shape), jnp.expm1(-nats_BC)[..., None], share_BCV
    )
    dlogits_BCV = jnp.where(held_BC[..., None], share_BCV - base_BCV, from_label_BCV)
    return _Chunk(nats_BC, kl_BC, jnp.where(held_BC, kl_BC, nats_BC), dlogits_BCV)


def _gradients(
    chunk: _Chunk,
    weights_BC: jax.Array,
    x_BCD: jax.Array,
    kernel_DV: jax.Array,
    placed: Collectives,
) -> tuple[jax.Array, jax.Array]:
    """Of the weighted cost in the hidden states, as they are kept, and in the head, float32.

    Weights are applied on the narrow side, after differences were formed in float32 and rounded.
    """
    d_BCV, weights_BC1 = chunk.dlogits_BCV.astype(x_BCD.dtype), weights_BC[..., None]
    dx_BCD = jnp.matmul(d_BCV, kernel_DV.T, preferred_element_type=jnp.float32) * weights_BC1
    scaled_BCD = (x_BCD * weights_BC1).astype(x_BCD.dtype)
    dhead_DV = jnp.einsum("bcd,bcv->dv", scaled_BCD, d_BCV, preferred_element_type=jnp.float32)
    return placed.sum_over_vocab(dx_BCD).astype(x_BCD.dtype), dhead_DV


def _log_shares(x_BCD: jax.Array, head_DV: jax.Array, placed: Collectives) -> jax.Array:
    """Logarithms of a softmax over the whole vocabulary, float32 [B, C, V]."""
    logits_BCV = jnp.matmul(x_BCD, head_DV, preferred_element_type=jnp.float32)
    most_BC1 = jnp.max(logits_BCV, axis=-1, keepdims=True)
    if placed.vocab_axis:
        most_BC1 = jax.lax.pmax(most_BC1, placed.vocab_axis)
    gap_BCV = logits_BCV - most_BC1
    sum_BC1 = placed.sum_over_vocab(jnp.sum(jnp.exp(gap_BCV), axis=-1, keepdims=True))
    return gap_BCV - jnp.log(sum_BC1)


def _kl_terms(log_BCV: jax.Array, base_log_BCV: jax.Array) -> jax.Array:
    """q (ln q - ln p) - q + p at every token: sums to the KL, and no term is below 0.

    With the shares added, which sum to nothing, what the models agree on cancels token by token
    and not in the sum: near the base, where training starts, a KL has its digits.
    """
    gap_BCV, base_BCV = base_log_BCV - log_BCV, jnp.exp(base_log_BCV)
    near_BCV = jnp.clip(gap_BCV, -1.0, 1.0)  # else exp(-gap) overflows where q is nothing
    of_near_BCV = base_BCV * (near_BCV + jnp.expm1(-near_BCV))
    of_far_BCV = base_BCV * gap_BCV - base_BCV + jnp.exp(log_BCV)
    return jnp.where(gap_BCV == near_BCV, of_near_BCV, of_far_BCV)
