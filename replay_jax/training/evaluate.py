"""Held-out loss of one source on a fixed set: sums over tokens, divided once on the host.

Shape letters: B batch, L length, D embed, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.model.loss import token_losses
from replay_jax.model.ordering import after
from replay_jax.model.placement import Placement
from replay_jax.training.config import StepShape
from replay_jax.training.gradient import (
    DeviceBatch,
    batch_gradient,
    hidden_states,
    loss_chunk,
    microbatches,
)
from replay_jax.training.mesh.devices import compiler_options
from replay_jax.training.mesh.sharding import (
    batch_sharding,
    placement,
    replicated,
    shardings_of,
)
from replay_jax.training.step import (
    abstract_batch,
    abstract_state,
    check_shape,
    on_mesh,
    place_batch,
    platform_of,
)
from replay_jax.training.trainable import split

EvaluationProgram = Callable[[Any, DeviceBatch], tuple[jax.Array, jax.Array]]
CosineProgram = Callable[[Any, DeviceBatch, DeviceBatch], jax.Array]


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Sums over the labels of one held-out set: nats, tokens and the bytes they stand for.

    `row_nats` and `row_tokens`, float64 [rows], are the sums of each row, padding at the end.
    """

    nats: float
    tokens: int
    label_bytes: int
    row_nats: np.ndarray
    row_tokens: np.ndarray


@dataclass(frozen=True)
class HeldOut:
    """A fixed held-out set on the devices: placed once, used at every evaluation of a process."""

    batches: tuple[DeviceBatch, ...]
    label_bytes: int


def place_held_out(batches: Iterable[Mapping[str, np.ndarray]], mesh: Mesh) -> HeldOut:
    """Place the batches of `pipeline.held_out_dataset` (labels with weight 0 do not count)."""
    placed, label_bytes = [], 0
    for batch in batches:
        placed.append(place_batch(batch, mesh))
        # Every host must know the total, and each reads its own rows only. A row has few bytes,
        # but a set may have more than the 32 bits count that JAX has.
        sharding, own = batch_sharding(mesh), batch["label_bytes"].astype(np.int32)
        rows = jax.make_array_from_process_local_data(sharding, own)
        label_bytes += int(process_allgather(rows, tiled=True).sum(dtype=np.int64))
    return HeldOut(tuple(placed), label_bytes)


def evaluate(program: EvaluationProgram, params: Any, held_out: HeldOut) -> EvaluationResult:
    """Sum the losses of a set; one source at a time, in float64 on the host.

    Raises FloatingPointError if the sum is not finite.
    """
    results = jax.device_get([program(params, batch) for batch in held_out.batches])
    row_nats, row_tokens = (
        np.concatenate([batch[item] for batch in results]).astype(np.float64) for item in (0, 1)
    )
    nats = float(row_nats.sum())
    if not math.isfinite(nats):
        raise FloatingPointError(f"The held-out loss is {nats}; the parameters have diverged.")
    tokens = int(row_tokens.sum())
    return EvaluationResult(nats, tokens, held_out.label_bytes, row_nats, row_tokens)


def row_losses(
    program: EvaluationProgram, params: Any, batches: Sequence[DeviceBatch], *, rows: int
) -> np.ndarray:
    """Nats of the counted labels of each of the first `rows` rows, float32 [rows].

    Raises FloatingPointError if one is not finite.
    """
    results = jax.device_get([program(params, batch)[0] for batch in batches])
    nats = np.concatenate(results)[:rows]
    if not np.isfinite(nats).all():
        raise FloatingPointError("A choice's loss is not finite; the parameters have diverged.")
    return nats


def evaluation_step(
    params: Any,
    batch: DeviceBatch,
    *,
    model: ModelConfig,
    platform: str,
    placement: Placement | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Nats and number of counted labels of every row, float32 [B] each."""
    transformer = build_transformer(model, platform=platform, placement=placement)
    with jax.default_matmul_precision(model.product_precision):
        x_BLD = hidden_states(transformer, params, batch)
        nats_BL = token_losses(
            x_BLD,
            head_kernel(params),
            batch["labels"],
            chunk=loss_chunk(model, batch["inputs"].shape, placement),
            placement=placement,
        )
    counted_BL = batch["loss_weights"] > 0
    nats_B = jnp.sum(jnp.where(counted_BL, nats_BL, 0.0), axis=1)
    return nats_B, jnp.sum(counted_BL.astype(jnp.float32), axis=1)


def evaluation_shape(shape: StepShape, mesh: Mesh, *, batch_size: int) -> StepShape:
    """What is measured beside training with `shape`: batches of a size, and few rows at once.

    As many microbatches as bring a device no more rows at once than training does, so that what
    trains can be measured; one where no such number divides the batch over the mesh.
    """
    ways = mesh.shape.get("replica", 1) * mesh.shape.get("fsdp", 1)
    most = shape.batch_size // shape.accumulation
    counts = [n for n in range(1, batch_size + 1) if batch_size % n == 0]
    fair = [n for n in counts if batch_size // n % ways == 0]
    count = next((n for n in fair if batch_size // n <= most), fair[-1] if fair else 1)
    return dataclasses.replace(
        shape, batch_size=batch_size, sources=1, accumulation=count, kl_sources=(), dropout=0.0
    )


def lower_evaluation(shape: StepShape, mesh: Mesh) -> jax.stages.Lowered:
    """Lower `evaluation_step` over the microbatches of a shape, for the mesh's own platform."""
    check_shape(shape, mesh, batch_name="evaluation.batch_size")
    placed = placement(mesh)

    def one(params: Any, batch: DeviceBatch) -> tuple[jax.Array, jax.Array]:
        return evaluation_step(
            params, batch, model=shape.model, platform=platform_of(mesh), placement=placed
        )

    def step(params: Any, batch: DeviceBatch) -> tuple[jax.Array, jax.Array]:
        if shape.accumulation == 1:
            return one(params, batch)
        micros = microbatches(batch, shape.accumulation, placed)
        sums = jax.lax.map(lambda micro: one(params, micro), micros)
        return jax.tree.map(lambda rows: rows.swapaxes(0, 1).reshape(-1), sums)

    params, batch = abstract_state(shape.model, mesh).params, abstract_batch(shape, mesh)
    whole = replicated(mesh)
    with on_mesh(mesh):
        return jax.jit(step, out_shardings=(whole, whole)).lower(params, batch)


def compile_evaluation(shape: StepShape, mesh: Mesh) -> EvaluationProgram:
    """Compile `evaluation_step`: (parameters, placed batch) -> row sums, whole on every host.

    `shape` is an `evaluation_shape`; its `sources` do not matter. Raises UserError if it does not
    divide over the mesh.
    """
    return lower_evaluation(shape, mesh).compile(compiler_options(platform_of(mesh)))


def lower_gradient_cosine(shape: StepShape, mesh: Mesh) -> jax.stages.Lowered:
    """Lower the cosine of the loss gradients of two batches: (parameters, a, b) -> scalar.

    At a stage boundary, with a generic and a target batch, it says whether the two sources pull
    the parameters the same way (1), apart (-1) or across (0).
    """
    check_shape(shape, mesh, batch_name="evaluation.batch_size")

    like, batch = abstract_state(shape.model, mesh).params, abstract_batch(shape, mesh)
    platform, placed = platform_of(mesh), placement(mesh)

    def gradient(params: Any, batch: DeviceBatch) -> Any:
        found, _ = batch_gradient(params, batch, shape=shape, platform=platform, placement=placed)
        if placed is None:
            return found
        # No moments say here how gradients are split: left to XLA, each would be whole everywhere.
        shardings = shardings_of(split(like, shape.model)[0])
        return jax.lax.with_sharding_constraint(found, shardings)

    def cosine(params: Any, a: DeviceBatch, b: DeviceBatch) -> jax.Array:
        first = gradient(params, a)
        size = optax.tree.norm(first)
        # One after another, or both hold their activations at once.
        b = {**b, "inputs": after(b["inputs"], size)}
        first, b = jax.lax.optimization_barrier((first, b))
        second = gradient(params, b)
        return optax.tree.vdot(first, second) / (size * optax.tree.norm(second))

    with on_mesh(mesh):
        return jax.jit(cosine, out_shardings=replicated(mesh)).lower(like, batch, batch)


def compile_gradient_cosine(shape: StepShape, mesh: Mesh) -> CosineProgram:
    """Compile `lower_gradient_cosine`."""
    return lower_gradient_cosine(shape, mesh).compile(compiler_options(platform_of(mesh)))
