"""Head and softmax cross-entropy together, so that the logits of a batch never exist at once.

`weighted_loss` is for training: it takes the loss weights in, so the gradients of a chunk are
formed while its logits are at hand and the backward pass only scales them. `token_losses` is for
evaluation and for losses whose weights are not known beforehand.

Shape letters: B batch, L length, C positions of a chunk, D embed, V vocabulary (a device's own
part of it where the vocabulary is split).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.placement import Placement

# Bytes of float32 logits up to which one device takes all its positions at once.
LOGIT_BYTES = 512 * 2**20


def chunk_positions(config: ModelConfig, *, rows: int, seq_len: int, vocab_shards: int = 1) -> int:
    """Return how many positions of each sequence to take at once; a divisor of `seq_len`.

    `rows` are the sequences on one device and `vocab_shards` the devices that share the
    vocabulary. `config.loss_chunk` decides unless it is 0; then it is the most positions whose
    float32 logits fit into LOGIT_BYTES: too small a chunk costs more than it saves.
    """
    per_position = 4 * rows * config.vocab_size / vocab_shards
    wanted = config.loss_chunk or max(1, int(LOGIT_BYTES / per_position))
    return max(c for c in range(1, seq_len + 1) if seq_len % c == 0 and c <= max(1, wanted))


def weighted_loss(
    x_BLD: jax.Array,
    head_DV: jax.Array,
    labels_BL: jax.Array,
    weights_BL: jax.Array,
    *,
    chunk: int,
    z_loss: float = 0.0,
    placement: Placement | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Return sum(weights * (nats + z_loss * lse**2)) and the nats of every token [B, L].

    The sum is float32 and differentiable in `x_BLD` and `head_DV`; the nats carry no gradient
    and no z-loss (PaLM, 2204.02311, section 5, for the latter). Divide the weights beforehand
    (by the batch's weight sum) so that the gradient arrives unscaled and no pass over the
    head's gradient is spent on it. `chunk` is the number of positions of each sequence taken at
    once; it must divide L.
    """
    settings = _Settings(chunk, z_loss, placement)
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
    placed = _Placed(placement)

    def local(x_BLD: jax.Array, head_DV: jax.Array, labels_BL: jax.Array) -> jax.Array:
        head_DV = head_DV.astype(x_BLD.dtype)

        @jax.checkpoint
        def nats_of(x_BCD: jax.Array, labels_BC: jax.Array) -> jax.Array:
            return _chunk_losses(x_BCD, head_DV, labels_BC, placed.vocab_axis).nats_BC

        if chunk == labels_BL.shape[1]:
            return nats_of(x_BLD, labels_BL)
        chunks = (_split(x_BLD, chunk), _split(labels_BL, chunk))
        return _join(jax.lax.map(lambda each: nats_of(*each), chunks))

    specs = (placed.hidden, placed.head, placed.rows)
    return placed.run(local, specs, placed.rows)(x_BLD, head_DV, labels_BL)


class _Settings(NamedTuple):
    chunk: int
    z_loss: float
    placement: Placement | None


class _Chunk(NamedTuple):
    """What one chunk's logits say; `hit` marks each label's place in this part of the head."""

    logits_BCV: jax.Array
    lse_BC: jax.Array
    hit_BCV: jax.Array
    nats_BC: jax.Array


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
    return (total, nats_BL), (dx_BLD, dhead_DV)


def _weighted_loss_backward(
    settings: _Settings,
    gradients: tuple[jax.Array, jax.Array],
    cotangents: tuple[jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, None, None]:
    dx_BLD, dhead_DV = gradients
    scale = cotangents[0]
    return (dx_BLD * scale).astype(dx_BLD.dtype), dhead_DV * scale, None, None


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
    placed = _Placed(settings.placement)

    def local(x_BLD, head_DV, labels_BL, weights_BL):  # type: ignore[no-untyped-def]
        kernel_DV = head_DV.astype(x_BLD.dtype)

        def one(dhead_DV, each):  # type: ignore[no-untyped-def]
            x_BCD, labels_BC, weights_BC = each
            chunk = _chunk_losses(x_BCD, kernel_DV, labels_BC, placed.vocab_axis)
            objective_BC = chunk.nats_BC + settings.z_loss * jnp.square(chunk.lse_BC)
            total = jnp.sum(objective_BC * weights_BC)
            if not with_gradients:
                return dhead_DV, (chunk.nats_BC, total, None)
            dlogits_BCV = _dlogits(chunk, weights_BC, settings.z_loss).astype(x_BCD.dtype)
            dx_BCD = jnp.einsum("BCV,DV->BCD", dlogits_BCV, kernel_DV)
            return (
                _add(dhead_DV, _dhead(x_BCD, dlogits_BCV)),
                (chunk.nats_BC, total, placed.sum_over_vocab(dx_BCD)),
            )

        operands = (x_BLD, labels_BL, weights_BL)
        if settings.chunk == labels_BL.shape[1]:
            dhead_DV, (nats_BL, total, dx_BLD) = one(None, operands)
        else:
            start = placed.zeros_like_head(head_DV) if with_gradients else None
            chunks = tuple(_split(operand, settings.chunk) for operand in operands)
            dhead_DV, (nats, totals, dx) = jax.lax.scan(one, start, chunks)
            nats_BL, total = _join(nats), jnp.sum(totals)
            dx_BLD = _join(dx) if with_gradients else None
        return nats_BL, placed.sum_over_batch(total), dx_BLD, placed.reduce_head(dhead_DV)

    in_specs = (placed.hidden, placed.head, placed.rows, placed.rows)
    out_specs = (
        placed.rows,
        PartitionSpec(),
        placed.hidden if with_gradients else None,
        placed.dhead if with_gradients else None,
    )
    return placed.run(local, in_specs, out_specs)(x_BLD, head_DV, labels_BL, weights_BL)


def _chunk_losses(
    x_BCD: jax.Array, head_DV: jax.Array, labels_BC: jax.Array, vocab_axis: str | None
) -> _Chunk:
    """Compute the logits of one chunk in float32 and each token's loss in nats."""
    logits_BCV = jnp.einsum("BCD,DV->BCV", x_BCD, head_DV, preferred_element_type=jnp.float32)
    largest_BC = jax.lax.stop_gradient(jnp.max(logits_BCV, axis=-1))
    first = jnp.zeros((), labels_BC.dtype)
    if vocab_axis is not None:
        largest_BC = jax.lax.stop_gradient(jax.lax.pmax(largest_BC, vocab_axis))
        first = jax.lax.axis_index(vocab_axis) * head_DV.shape[1]
    places_11V = jnp.arange(head_DV.shape[1], dtype=labels_BC.dtype)[None, None]
    hit_BCV = places_11V == (labels_BC - first)[:, :, None]
    sums_BC = jnp.sum(jnp.exp(logits_BCV - largest_BC[:, :, None]), axis=-1)
    label_BC = jnp.sum(jnp.where(hit_BCV, logits_BCV, 0.0), axis=-1)
    if vocab_axis is not None:
        sums_BC, label_BC = jax.lax.psum((sums_BC, label_BC), vocab_axis)
    lse_BC = jnp.log(sums_BC) + largest_BC
    return _Chunk(logits_BCV, lse_BC, hit_BCV, lse_BC - label_BC)


def _dlogits(chunk: _Chunk, weights_BC: jax.Array, z_loss: float) -> jax.Array:
    """d(weighted objective) / d(logits): (1 + 2 z lse) softmax - one-hot, weighted."""
    softmax_BCV = jnp.exp(chunk.logits_BCV - chunk.lse_BC[:, :, None])
    pull_BC1 = (weights_BC * (1.0 + 2.0 * z_loss * chunk.lse_BC))[:, :, None]
    return softmax_BCV * pull_BC1 - jnp.where(chunk.hit_BCV, weights_BC[:, :, None], 0.0)


def _dhead(x_BCD: jax.Array, dlogits_BCV: jax.Array) -> jax.Array:
    return jnp.einsum("BCD,BCV->DV", x_BCD, dlogits_BCV, preferred_element_type=jnp.float32)


def _add(carried: jax.Array | None, new: jax.Array) -> jax.Array:
    return new if carried is None else carried + new


def _split(x_BL: jax.Array, chunk: int) -> jax.Array:
    """[B, L, ...] to [L / chunk, B, chunk, ...]."""
    batch, length, *rest = x_BL.shape
    return jnp.moveaxis(x_BL.reshape(batch, length // chunk, chunk, *rest), 1, 0)


def _join(chunks: jax.Array) -> jax.Array:
    """The inverse of `_split`."""
    count, batch, chunk, *rest = chunks.shape
    return jnp.moveaxis(chunks, 0, 1).reshape(batch, count * chunk, *rest)


class _Placed:
    """The collectives of a placement; without one, everything is local and they do nothing.

    Every device loops over its own positions and the head's gradient is summed over the mesh
    once at the end, not once a chunk, which is why the loop runs in shard_map.
    """

    def __init__(self, placement: Placement | None) -> None:
        self.placement = placement
        self.batch_axes = placement.batch_axes if placement else ()
        self.vocab_axis = placement.vocab_axis if placement else None
        self.embed_axis = placement.embed_axis if placement else None
        self.rows = PartitionSpec(self.batch_axes, None)
        self.hidden = PartitionSpec(self.batch_axes, None, None)
        self.head = PartitionSpec(None, self.vocab_axis)
        self.dhead = PartitionSpec(self.embed_axis, self.vocab_axis)

    def run(self, function, in_specs, out_specs):  # type: ignore[no-untyped-def]
        """Run on each device's own part."""
        if self.placement is None:
            return function
        return jax.shard_map(
            function, mesh=self.placement.mesh, in_specs=in_specs, out_specs=out_specs
        )

    def zeros_like_head(self, head_DV: jax.Array) -> jax.Array:
        """The head's gradient before any chunk, marked as different on every device."""
        zeros = jnp.zeros(head_DV.shape, jnp.float32)
        axes = self.batch_axes + ((self.vocab_axis,) if self.vocab_axis else ())
        return jax.lax.pcast(zeros, axes, to="varying") if axes else zeros

    def sum_over_vocab(self, x: jax.Array) -> jax.Array:
        """Add the parts that the shards of the vocabulary contribute."""
        return jax.lax.psum(x, self.vocab_axis) if self.vocab_axis else x

    def sum_over_batch(self, x: jax.Array) -> jax.Array:
        """Add over all rows of the global batch."""
        return jax.lax.psum(x, self.batch_axes) if self.batch_axes else x

    def reduce_head(self, dhead_DV: jax.Array | None) -> jax.Array | None:
        """Sum the head's gradient over the batch, each device keeping only its own part."""
        if dhead_DV is None or not self.batch_axes:
            return dhead_DV
        if self.embed_axis is None:
            return jax.lax.psum(dhead_DV, self.batch_axes)
        own = jax.lax.psum_scatter(dhead_DV, self.embed_axis, scatter_dimension=0, tiled=True)
        others = tuple(axis for axis in self.batch_axes if axis != self.embed_axis)
        return jax.lax.psum(own, others) if others else own
