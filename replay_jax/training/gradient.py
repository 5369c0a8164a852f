"""The gradient of one batch's loss, whole or summed over microbatches, with sums per source.

Shape letters: B batch, L length, D embed, A microbatches, M rows of one microbatch, S sources.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.decoder import Transformer, build_transformer, head_kernel
from replay_jax.model.kl import Base, held_loss
from replay_jax.model.loss import chunk_positions, weighted_loss
from replay_jax.model.placement import Placement
from replay_jax.model.trained import head_is_trained
from replay_jax.training.config import StepShape
from replay_jax.training.mesh.sharding import BATCH_AXES, REPLICA_AXES, RULES_WITHIN_REPLICA
from replay_jax.training.trainable import joined, split

DeviceBatch = dict[str, jax.Array]
DROPOUT_KEYS = "dropout_keys"
# Told apart from the keys that parameters are drawn by, which are small seeds.
_DROPOUT = 0xD20B007


def batch_gradient(
    params: Any,
    batch: DeviceBatch,
    *,
    shape: StepShape,
    platform: str,
    placement: Placement | None = None,
    base: Any = None,
) -> tuple[Any, tuple[jax.Array, ...]]:
    """Gradient of a batch's loss, and its nats and weights per source [S] (`StepMetrics`).

    It is in the trained parameters. The loss is sum(weight * nats) / sum(weight). Weights are
    divided by their sum over the whole batch beforehand, so the gradients of the microbatches add
    up to that of the batch. Where the shape has `kl_sources`, a label of theirs costs its KL to the
    model of the parameters `base` (None: of the frozen ones), and what was minimised is told third.
    """
    total = jnp.sum(batch["loss_weights"])
    batch = {**batch, "scaled_weights": batch["loss_weights"] / total}

    def gradient(params: Any, batch: DeviceBatch, base: Any, *, placement: Placement | None) -> Any:
        trained, frozen = split(params, shape.model)
        loss = functools.partial(
            _loss, frozen=frozen, base=base, shape=shape, platform=platform, placement=placement
        )
        return _accumulate(loss, trained, batch, shape, placement)

    with jax.default_matmul_precision(shape.model.product_precision):
        if shape.accumulation > 1 and placement is not None and _sums_once(placement):
            return _summed_once(gradient, params, batch, base, placement)
        return gradient(params, batch, base, placement=placement)


def loss_chunk(model: ModelConfig, rows: tuple[int, ...], placement: Placement | None) -> int:
    """Positions per chunk of the loss for global `rows` (sequences, length) on a placement."""
    ways, vocab = 1, 1
    if placement is not None:
        ways = math.prod(placement.mesh.shape[axis] for axis in placement.batch_axes)
        vocab = placement.mesh.shape["tensor"]
    return chunk_positions(model, rows=rows[0] // ways, seq_len=rows[1], vocab_shards=vocab)


def microbatches(batch: DeviceBatch, count: int, placement: Placement | None) -> DeviceBatch:
    """The batch with a leading axis of microbatches: [A, B / A, ...].

    Microbatch a holds rows a, a + A, ...: every device keeps the rows that it has.
    """

    def split(array: jax.Array) -> jax.Array:
        rows = array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1)
        if placement is None:
            return rows
        sharding = NamedSharding(placement.mesh, PartitionSpec(None, placement.batch_axes))
        return jax.lax.with_sharding_constraint(rows, sharding)

    return jax.tree.map(split, batch)


def dropout_keys(seed: int, sequences: np.ndarray) -> np.ndarray:
    """Keys of dropout for sequences of a run, uint32 [B, 2]: none twice in a run.

    Args:
        seed: of the run, below 2^32.
        sequences: their numbers in the run, from 0 [B].
    """
    drawn = np.asarray(sequences, np.int64) % 2**32
    return np.stack([np.full_like(drawn, seed ^ _DROPOUT), drawn], axis=1).astype(np.uint32)


def hidden_states(transformer: Transformer, params: Any, batch: DeviceBatch) -> jax.Array:
    """Final hidden states [B, L, D] of a batch; documents are kept apart if it has segments.

    A transformer with dropout is given the keys of the rows, another one none.
    """
    segments_BL = batch["segments"] if "segments" in batch else None
    keys_B2 = batch[DROPOUT_KEYS] if transformer.dropout else None
    hidden_BLD = transformer.apply({"params": params}, batch["inputs"], segments_BL, keys_B2)
    assert isinstance(hidden_BLD, jax.Array)
    return hidden_BLD


def _loss(
    trained: Any,
    micro: DeviceBatch,
    *,
    frozen: Any,
    base: Any,
    shape: StepShape,
    platform: str,
    placement: Placement | None,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Differentiable loss of one microbatch, and its sums per source (`batch_gradient`)."""
    params, model = joined(trained, frozen), shape.model
    rows, length = micro["inputs"].shape

    def states(params: Any, model: ModelConfig, dropout: float) -> jax.Array:
        transformer = build_transformer(
            model, platform=platform, placement=placement, dropout=dropout
        )
        return hidden_states(transformer, params, micro)

    x_MLD = states(params, model, shape.dropout)
    given = (x_MLD, head_kernel(params), micro["labels"], micro["scaled_weights"])
    settings: Any = {"placement": placement, "trains_head": head_is_trained(model)}
    if not shape.kl_sources:
        chunk = loss_chunk(model, (rows, length), placement)
        total, nats_ML = weighted_loss(*given, chunk=chunk, **settings)
        return total, (_by_source(nats_ML, micro, shape), _weights_by_source(micro, shape))
    like = frozen if base is None else base
    held_M = jnp.isin(micro["source"], jnp.array(shape.kl_sources))
    beside = Base(states(like, replace(model, lora=None), 0.0), head_kernel(like), held_M)
    chunk = loss_chunk(model, (2 * rows, length), placement)  # logits of two models
    total, nats_ML, kl_ML = held_loss(*given, beside, chunk=chunk, **settings)
    costs = (nats_ML, jnp.where(held_M[:, None], kl_ML, nats_ML))
    nats_S, minimised_S = (_by_source(cost_ML, micro, shape) for cost_ML in costs)
    return total, (nats_S, _weights_by_source(micro, shape), minimised_S)


def _by_source(cost_ML: jax.Array, micro: DeviceBatch, shape: StepShape) -> jax.Array:
    """Sums of weight times cost of the rows of every source [S]."""
    weights_ML = micro["loss_weights"]
    cost_M = jnp.sum(jnp.where(weights_ML > 0, cost_ML * weights_ML, 0.0), axis=1)
    return _sum_rows(cost_M, micro, shape)


def _weights_by_source(micro: DeviceBatch, shape: StepShape) -> jax.Array:
    return _sum_rows(jnp.sum(micro["loss_weights"], axis=1), micro, shape)


def _sum_rows(x_M: jax.Array, micro: DeviceBatch, shape: StepShape) -> jax.Array:
    of_MS = micro["source"][:, None] == jnp.arange(shape.sources)[None]
    return jnp.sum(jnp.where(of_MS, x_M[:, None], 0.0), axis=0)


def _sums_once(placement: Placement) -> bool:
    """Whether there are sums that may wait for the last microbatch (`_summed_once`).

    Not over a vocabulary that is split: XLA's partitioner crashes on looking one up (jax 0.10.2).
    """
    return placement.mesh.shape["replica"] > 1 and placement.vocab_axis is None


def _summed_once(
    gradient: Callable[..., Any],
    params: Any,
    batch: DeviceBatch,
    base: Any,
    placement: Placement,
) -> Any:
    """`gradient` of each replica's own rows, summed over the replicas after its last microbatch.

    Left to XLA, whole gradients go between replicas once a microbatch. Where parameters are split,
    sums over those that share them stay in each microbatch: put off, they would take room for a
    whole gradient on every device, which splitting is there to avoid (docs/performance_tpu.md).
    """
    whole = placement.embed_axis is None
    axes, rules = (BATCH_AXES, ()) if whole else (REPLICA_AXES, RULES_WITHIN_REPLICA)

    def local(params: Any, batch: DeviceBatch, base: Any) -> Any:
        inner = None if whole else placement.within(axes)
        with nn.logical_axis_rules(rules):
            return jax.lax.psum(gradient(params, batch, base, placement=inner), axes)

    return jax.shard_map(
        local,
        mesh=placement.mesh,
        in_specs=(PartitionSpec(), PartitionSpec(axes), PartitionSpec()),
        out_specs=PartitionSpec(),
        axis_names=frozenset(placement.mesh.axis_names if whole else axes),
        check_vma=False,
    )(params, batch, base)


def _accumulate(
    loss: Callable[..., Any],
    params: Any,
    batch: DeviceBatch,
    shape: StepShape,
    placement: Placement | None,
) -> tuple[Any, Any]:
    """Gradients and sums of the whole batch, summed over its microbatches by a scan."""
    gradient = jax.grad(loss, has_aux=True)
    if shape.accumulation == 1:
        return gradient(params, batch)

    def add(sums: Any, micro: DeviceBatch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, gradient(params, micro)), None

    micros = microbatches(batch, shape.accumulation, placement)
    one = jax.tree.map(lambda rows: rows[0], micros)
    zeros = jax.tree.map(
        lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(gradient, params, one)
    )
    return jax.lax.scan(add, zeros, micros)[0]
