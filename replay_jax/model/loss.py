"""Head and softmax cross-entropy together, so that the logits of a batch never exist at once.

`weighted_loss` is for training: it takes the loss weights in, so the gradients of a chunk are
formed while its logits are at hand and the backward pass only scales them. `token_losses` is for
evaluation and for losses whose weights are not known beforehand.

Shape letters: B batch, L length, C positions of a chunk, N = B x C, D embed, V vocabulary (a
device's own part of it where the vocabulary is split).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.collectives import Collectives
from replay_jax.model.label_terms import at_labels, hits, label_logits, put_at_labels
from replay_jax.model.ordering import after
from replay_jax.model.placement import Placement

# Bytes of logits up to which one device takes all its positions at once.
LOGIT_BYTES = 512 * 2**20
# exp(this) times any vocabulary is finite in float32; a token's loss is not told apart beyond it.
LARGEST_GAP = 75.0


def chunk_positions(config: ModelConfig, *, rows: int, seq_len: int, vocab_shards: int = 1) -> int:
    """Return how many positions of each sequence to take at once, at most `seq_len`.

    `rows` are the sequences on one device and `vocab_shards` the devices that share the
    vocabulary. `config.loss_chunk` decides unless it is 0; then it is the most positions whose
    logits, in the dtype of the computation, fit into LOGIT_BYTES: too small a chunk costs more
    than it saves. A divisor of `seq_len` is taken if one is at least half of that; otherwise the
    last chunk is filled up, with less than a chunk's worth of positions that do not count.
    """
    per_position = (
        jnp.dtype(config.compute_dtype).itemsize * rows * config.vocab_size / vocab_shards
    )
    wanted = config.loss_chunk or max(1, int(LOGIT_BYTES / per_position))
    wanted = min(wanted, seq_len)
    divisor = max(c for c in range(1, wanted + 1) if seq_len % c == 0)
    return divisor if 2 * divisor >= wanted else -(-seq_len // -(-seq_len // wanted))


def weighted_loss(
    x_BLD: jax.Array,
    head_DV: jax.Array,
    labels_BL: jax.Array,
    weights_BL: jax.Array,
    *,
    chunk: int,
    placement: Placement | None = None,
    trains_head: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Return sum(weights * nats) and the nats of every token [B, L].

    The sum is float32 and differentiable in `x_BLD` and `head_DV`; the nats carry no gradient.
    Divide the weights beforehand (by the batch's weight sum) so that the gradient arrives
    unscaled and no pass over the head's gradient is spent on it. `chunk` is the number of
    positions of each sequence taken at once; a head that is not trained gets no gradient.
    """
    settings = _Settings(chunk, placement, trains_head)
    weights_BL = jax.lax.stop_gradient(weights_BL)
    total, nats_BL = _weighted_loss(settings, x_BLD, head_DV, labels_BL, weights_BL)
    return total, jax.lax.stop_gradient(nats_BL)


def token_losses(
    x_BLD: jax.Array,
    head_DV: jax.Array,
    labels_BL: jax.Array,
    *,
    chunk: int,
    placement: Placement | None = None,
) -> jax.Array:
    """Return the nats of every token, float32 [B, L].

    Differentiable for any use of the result; the backward pass recomputes each chunk's logits.
    """
    placed = Collectives(placement)

    def local(x_BLD: jax.Array, head_DV: jax.Array, labels_BL: jax.Array) -> jax.Array:
        head_DV = head_DV.astype(x_BLD.dtype)

        @jax.checkpoint
        def nats_of(x_BCD: jax.Array, labels_BC: jax.Array) -> jax.Array:
            chunk = _chunk_losses(x_BCD, head_DV, labels_BC, placed.vocab_axis)
            return chunk.nats_N.reshape(labels_BC.shape)

        if chunk == labels_BL.shape[1]:
            return nats_of(x_BLD, labels_BL)
        chunks = (split_chunks(x_BLD, chunk), split_chunks(labels_BL, chunk))
        return join_chunks(jax.lax.map(lambda each: nats_of(*each), chunks), labels_BL.shape[1])

    specs = (placed.hidden, placed.head, placed.rows)
    return placed.run(local, specs, placed.rows)(x_BLD, head_DV, labels_BL)


class _Settings(NamedTuple):
    chunk: int
    placement: Placement | None
    trains_head: bool


class _Chunk(NamedTuple):
    """What one chunk's logits say: powers exp(logits - any number of the row) and their sums."""

    powers_NV: jax.Array
    sum_N: jax.Array
    nats_N: jax.Array
    labels_N: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _weighted_loss(
    settings: _Settings,
    x_BLD: jax.Array,
    head_DV: jax.Array,
    labels_BL: jax.Array,
    weights_BL: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    nats_BL, total, _, _ = _sums(settings, False, x_BLD, head_DV, labels_BL, weights_BL)
    return total, nats_BL


def _weighted_loss_forward(
    settings: _Settings,
    x_BLD: jax.Array,
    head_DV: jax.Array,
    labels_BL: jax.Array,
    weights_BL: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array | None, jax.Array | None]]:
    nats_BL, total, dx_BLD, dhead_DV = _sums(settings, True, x_BLD, head_DV, labels_BL, weights_BL)
    # The head's gradient is summed over the mesh before the layers' backward pass starts, which
    # would otherwise hold every device's unsummed copy of the whole matrix to its end.
    return (total, nats_BL), jax.lax.optimization_barrier((dx_BLD, dhead_DV))


def _weighted_loss_backward(
    settings: _Settings,
    gradients: tuple[jax.Array, jax.Array | None],
    cotangents: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array | None, None, None]:
    (dx_BLD, dhead_DV), scale = gradients, cotangents[0]
    dhead_DV = jax.tree.map(lambda whole: whole * scale, dhead_DV)
    return (dx_BLD * scale).astype(dx_BLD.dtype), dhead_DV, None, None


_weighted_loss.defvjp(_weighted_loss_forward, _weighted_loss_backward)


def _sums(
    settings: _Settings,
    with_gradients: bool,
    x_BLD: jax.Array,
    head_DV: jax.Array,
    labels_BL: jax.Array,
    weights_BL: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array | None, jax.Array | None]:
    """Return nats, the weighted sum, and the gradients of that sum (None unless asked for)."""
    placed = Collectives(settings.placement)
    with_head = with_gradients and settings.trains_head

    def local(x_BLD, head_DV, labels_BL, weights_BL):  # type: ignore[no-untyped-def]
        kernel_DV = head_DV.astype(x_BLD.dtype)

        def one(dhead_DV, each):  # type: ignore[no-untyped-def]
            x_BCD, labels_BC, weights_BC = each
            chunk = _chunk_losses(x_BCD, kernel_DV, labels_BC, placed.vocab_axis)
            weights_N = weights_BC.reshape(-1)
            total = jnp.sum(chunk.nats_N * weights_N)
            nats_BC = chunk.nats_N.reshape(labels_BC.shape)
            if not with_gradients:
                return dhead_DV, (nats_BC, total, None)
            dx_ND, new_DV = _gradients(chunk, weights_N, x_BCD, kernel_DV)
            dx_BCD = placed.sum_over_vocab(dx_ND).astype(x_BCD.dtype).reshape(x_BCD.shape)
            return _add(dhead_DV, new_DV) if with_head else None, (nats_BC, total, dx_BCD)

        operands = (x_BLD, labels_BL, weights_BL)
        length = labels_BL.shape[1]
        if settings.chunk == length:
            dhead_DV, (nats_BL, total, dx_BLD) = one(None, operands)
        else:
            start = placed.zeros_like_head(head_DV) if with_head else None
            chunks = tuple(split_chunks(operand, settings.chunk) for operand in operands)
            dhead_DV, (nats, totals, dx) = jax.lax.scan(one, start, chunks)
            nats_BL, total = join_chunks(nats, length), jnp.sum(totals)
            dx_BLD = join_chunks(dx, length) if with_gradients else None
        return nats_BL, placed.sum_over_batch(total), dx_BLD, placed.reduce_head(dhead_DV)

    in_specs = (placed.hidden, placed.head, placed.rows, placed.rows)
    out_specs = (
        placed.rows,
        PartitionSpec(),
        placed.hidden if with_gradients else None,
        placed.dhead if with_head else None,
    )
    return placed.run(local, in_specs, out_specs)(x_BLD, head_DV, labels_BL, weights_BL)


def _chunk_losses(
    x_BCD: jax.Array, head_DV: jax.Array, labels_BC: jax.Array, vocab_axis: str | None
) -> _Chunk:
    """Compute the logits of one chunk in float32 and each token's loss in nats."""
    x_ND = x_BCD.reshape(-1, x_BCD.shape[-1])
    labels_N = labels_BC.reshape(-1)
    if vocab_axis is not None:
        labels_N = labels_N - jax.lax.axis_index(vocab_axis) * head_DV.shape[1]
    logits_NV = jnp.matmul(x_ND, head_DV, preferred_element_type=jnp.float32)

    def whole(part_N: jax.Array) -> jax.Array:
        return jax.lax.psum(part_N, vocab_axis) if vocab_axis else part_N

    def softmax(gap_NV, again_NV, label_gap_N):  # type: ignore[no-untyped-def]
        # Exponentials are formed anew and already divided, in one walk.
        logsum_N = jnp.log(whole(jnp.sum(jnp.exp(gap_NV), axis=-1)))
        powers_NV = jnp.exp(again_NV - logsum_N[:, None])
        return powers_NV, jnp.ones_like(logsum_N), logsum_N - label_gap_N

    def from_most(logits_NV, x_ND, head_DV, labels_N):  # type: ignore[no-untyped-def]
        # The maximum cancels in the loss, so it needs no gradient (and pmax has none).
        most_N = jax.lax.stop_gradient(jnp.max(logits_NV, axis=-1))
        most_N = jax.lax.pmax(most_N, vocab_axis) if vocab_axis else most_N
        label_N = whole(at_labels(logits_NV, labels_N))
        # After all else that reads the logits, so that the exponentials take their memory.
        again_NV = logits_NV - after(most_N, label_N)[:, None]
        # The small difference is formed first: a sure token's nats keep their digits.
        return softmax(logits_NV - most_N[:, None], again_NV, label_N - most_N)

    def gaps(logits_NV, x_ND, head_DV, labels_N):  # type: ignore[no-untyped-def]
        label_N = whole(label_logits(x_ND, head_DV, labels_N))
        gap_NV = jnp.minimum(logits_NV - label_N[:, None], LARGEST_GAP)
        # Of the label itself it is none, in whatever order the two products were summed; so no
        # loss is below zero, and a sure token's is as exact as the others' share.
        return jnp.where(hits(gap_NV, labels_N), 0.0, gap_NV)

    def from_label(logits_NV, x_ND, head_DV, labels_N):  # type: ignore[no-untyped-def]
        gap_NV = gaps(logits_NV, x_ND, head_DV, labels_N)
        return softmax(gap_NV, gap_NV, 0.0)

    def from_label_at_once(logits_NV, x_ND, head_DV, labels_N):  # type: ignore[no-untyped-def]
        powers_NV = jnp.exp(gaps(logits_NV, x_ND, head_DV, labels_N))
        sum_N = whole(jnp.sum(powers_NV, axis=-1))
        return powers_NV, sum_N, jnp.log(sum_N)

    # The label's own logit is known before the product and never underflows the sum, which saves
    # a GPU the walk for the maximum, and lets a TPU form powers and sums in the product itself,
    # so that the logits never reach its memory.
    powers_NV, sum_N, nats_N = jax.lax.platform_dependent(
        logits_NV,
        x_ND,
        head_DV,
        labels_N,
        cpu=from_most,
        cuda=from_label,
        default=from_label_at_once,
    )
    return _Chunk(powers_NV.astype(x_BCD.dtype), sum_N, nats_N, labels_N)


def _gradients(
    chunk: _Chunk, weights_N: jax.Array, x_BCD: jax.Array, kernel_DV: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gradients of the weighted objective in the hidden states and in the head, float32.

    d(objective) / d(logits) is weight * (softmax - one-hot). It is never formed: both products
    are taken with `powers` and each row's factor is applied on the narrow side, which saves a walk
    over the logits. At the label, p - 1 = expm1(-nats) is formed in float32 and only then
    rounded: a p near 1 that was rounded to bfloat16 first has no digit of 1 - p left.
    """
    label_N = chunk.sum_N * jnp.expm1(-chunk.nats_N)
    for_x_NV, for_head_NV = put_at_labels(chunk.powers_NV, chunk.labels_N, label_N)
    factor_N1 = (weights_N / chunk.sum_N)[:, None]
    x_ND = x_BCD.reshape(-1, x_BCD.shape[-1])
    scaled_ND = (x_ND * factor_N1).astype(x_BCD.dtype)
    dx_ND = jnp.matmul(for_x_NV, kernel_DV.T, preferred_element_type=jnp.float32) * factor_N1
    return dx_ND, jnp.matmul(scaled_ND.T, for_head_NV, preferred_element_type=jnp.float32)


def _add(carried: jax.Array | None, new: jax.Array) -> jax.Array:
    return new if carried is None else carried + new


def split_chunks(x_BL: jax.Array, chunk: int) -> jax.Array:
    """[B, L, ...] to [ceil(L / chunk), B, chunk, ...], the last one filled up with zeros."""
    batch, length, *rest = x_BL.shape
    missing = -length % chunk
    if missing:
        x_BL = jnp.pad(x_BL, ((0, 0), (0, missing), *((0, 0) for _ in rest)))
        length += missing
    return jnp.moveaxis(x_BL.reshape(batch, length // chunk, chunk, *rest), 1, 0)


def join_chunks(chunks: jax.Array, length: int) -> jax.Array:
    """The inverse of `split_chunks` for sequences of a length."""
    count, batch, chunk, *rest = chunks.shape
    return jnp.moveaxis(chunks, 0, 1).reshape(batch, count * chunk, *rest)[:, :length]
