"""Several models of one shape as one program: every lane trains its own, side by side.

A population is `step.train_step` mapped over lanes, the lanes split over the devices and every
lane whole on its device, so nothing is sent between them. It always has the same number of lanes:
idle ones hold parameters of zeros that a learning rate of zero leaves alone. So one program serves
any group of runs, and a lane's bits do not depend on what the others do.

Shape letters: K lanes, B batch, L length.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from replay_jax.errors import UserError
from replay_jax.model.attention import resolve_attention
from replay_jax.training.config import OptimizerConfig, StepShape
from replay_jax.training.gradient import DeviceBatch
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import attached_devices, compiler_options
from replay_jax.training.mesh.sharding import make_mesh, shardings_of
from replay_jax.training.optimizer import HYPER_NAMES, Hyper, hyperparameters
from replay_jax.training.step import (
    StepMetrics,
    StepProgram,
    TrainState,
    abstract_batch,
    abstract_state,
    check_shape,
    platform_of,
    reset_optimizer,
    train_step,
)

_AXIS = "population"
_LANES = PartitionSpec(_AXIS)

HostBatch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Population:
    """Compiled programs over the stacked states of all lanes, leaves [K, ...].

    Attributes:
        lanes: K.
        mesh: all devices that share the lanes.
        solo: its first device alone, where a state that is taken out lies.
        step: one update of every lane; batch [K, B, ...] and hyper [K]; the states are consumed.
        empty: states of zeros.
        insert: (states, state, lane) with a lane replaced; the states are consumed, `state` is not.
        take: (states, lane), a copy of one lane as a state of `solo`.
        reset: (states, lanes [K] of bool) with those optimizers reset; the states are consumed.
        clear: (states, lane) with a lane set to zeros; the states are consumed.
    """

    shape: StepShape
    lanes: int
    mesh: Mesh
    solo: Mesh
    step: StepProgram
    empty: Callable[[], TrainState]
    insert: Callable[[TrainState, TrainState, int], TrainState]
    take: Callable[[TrainState, int], TrainState]
    reset: Callable[[TrainState, np.ndarray], TrainState]
    clear: Callable[[TrainState, int], TrainState]

    def place_batches(self, batches: Sequence[HostBatch | None]) -> DeviceBatch:
        """Put every lane's batch on its device; None for an idle lane."""
        idle = _idle_batch(self.shape, self.solo)
        filled = [idle if batch is None else batch for batch in batches]
        stacked = {name: np.stack([batch[name] for batch in filled]) for name in idle}
        return jax.device_put(stacked, self.over_lanes)

    def place_hyper(self, hypers: Sequence[Hyper | None]) -> Hyper:
        """Put every lane's hyperparameters on its device; None for an idle lane."""
        filled = [_IDLE_HYPER if hyper is None else hyper for hyper in hypers]
        stacked = {name: np.stack([hyper[name] for hyper in filled]) for name in HYPER_NAMES}
        return jax.device_put(stacked, self.over_lanes)

    def place_rates(self, rates: Sequence[float | None]) -> jax.Array:
        """Put every lane's learning rate on its device; None for an idle lane."""
        filled = np.array([rate or 0.0 for rate in rates], np.float32)
        return jax.device_put(filled, self.over_lanes)

    @property
    def over_lanes(self) -> NamedSharding:
        """Sharding of every array with a leading axis of lanes."""
        return NamedSharding(self.mesh, _LANES)


def compile_population(
    shape: StepShape, lanes: int, devices: Sequence[jax.Device] | None = None
) -> Population:
    """Compile a population of `lanes` models over the devices (all of this process unless given).

    Raises UserError if the lanes do not divide over the devices or the sequences are too long.
    """
    mesh, solo = _meshes(attached_devices() if devices is None else devices)
    step = lower_population(shape, lanes, list(mesh.devices.flat))
    return Population(
        shape, lanes, mesh, solo, step=step.compile(compiler_options(platform_of(mesh))),
        **_compile_moves(shape, lanes, mesh, solo),
    )  # fmt: skip


def population_step(shape: StepShape, mesh: Mesh, *, platform: str) -> StepProgram:
    """`train_step` over the lanes of a mesh, unjitted: leaves [K, ...] in and out."""
    model = shape.model
    if resolve_attention(model.attention, platform) == "cudnn":
        shape = replace(shape, model=replace(model, attention="cudnn_lanes"))

    def one(state: TrainState, batch: DeviceBatch, hyper: Hyper) -> tuple[TrainState, StepMetrics]:
        return train_step(state, batch, hyper, shape=shape, platform=platform)

    # In shard_map, because the partitioner is not to invent another way to split a lane.
    return jax.shard_map(
        jax.vmap(one), mesh=mesh, in_specs=_LANES, out_specs=_LANES, check_vma=False
    )


def lower_population(
    shape: StepShape, lanes: int, devices: Sequence[jax.Device]
) -> jax.stages.Lowered:
    """Lower a population's step, as `compile_population` compiles it, with its errors."""
    if lanes % len(devices):
        raise UserError(
            f"execution.population {lanes} does not divide over {len(devices)} devices; "
            f"{-(-lanes // len(devices)) * len(devices)} would do."
        )
    mesh, solo = _meshes(devices)
    check_shape(shape, solo)
    every = population_step(shape, mesh, platform=platform_of(mesh))
    arguments = abstract_arguments(shape, lanes, mesh, solo)
    return jax.jit(every, donate_argnums=0).lower(*arguments)


def _meshes(devices: Sequence[jax.Device]) -> tuple[Mesh, Mesh]:
    """All devices as one axis of lanes, and the first one alone."""
    mesh = Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))
    return mesh, make_mesh(MeshConfig(1, 1, 1), devices[:1])


def abstract_arguments(
    shape: StepShape, lanes: int, mesh: Mesh, solo: Mesh
) -> tuple[TrainState, DeviceBatch, Hyper]:
    """Shapes, dtypes and shardings of what a population's step takes."""
    over = NamedSharding(mesh, _LANES)
    states = _placed(abstract_state(shape.model, solo, shape.optimizer), over, lanes)
    batch = _placed(abstract_batch(shape, solo), over, lanes)
    rate = jax.ShapeDtypeStruct((lanes,), jnp.float32, sharding=over)
    return states, batch, {name: rate for name in HYPER_NAMES}


def _compile_moves(shape: StepShape, lanes: int, mesh: Mesh, solo: Mesh) -> dict[str, Any]:
    """The small programs around the step: put in, take out, reset, clear."""
    state = abstract_state(shape.model, solo, shape.optimizer)
    over, whole = NamedSharding(mesh, _LANES), NamedSharding(mesh, PartitionSpec())
    states, everywhere = _placed(state, over, lanes), _placed(state, whole)
    lane = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    mask = jax.ShapeDtypeStruct((lanes,), jnp.bool_, sharding=over)

    def put(states: TrainState, state: TrainState, lane: jax.Array) -> TrainState:
        at = jax.lax.dynamic_update_index_in_dim
        return jax.tree.map(lambda all, new: at(all, new, lane, 0), states, state)

    def get(states: TrainState, lane: jax.Array) -> TrainState:
        at = jax.lax.dynamic_index_in_dim
        return jax.tree.map(lambda all: at(all, lane, 0, keepdims=False), states)

    def maybe_reset(state: TrainState, wanted: jax.Array) -> TrainState:
        pick = lambda new, old: jnp.where(wanted, new, old)  # noqa: E731
        return jax.tree.map(pick, reset_optimizer(state, shape.model, shape.optimizer), state)

    def zeros(shape: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)

    def build(function: Callable[..., Any], *arguments: Any, out: Any, donate: bool = True) -> Any:
        jitted = jax.jit(function, out_shardings=out, donate_argnums=(0,) if donate else ())
        return jitted.lower(*arguments).compile()

    empty = build(lambda: zeros(states), out=over, donate=False)
    insert = build(put, states, everywhere, lane, out=over)
    take = build(get, states, lane, out=whole, donate=False)
    reset = build(jax.vmap(maybe_reset), states, mask, out=over)
    clear = build(lambda states, lane: put(states, zeros(state), lane), states, lane, out=over)

    home = shardings_of(state)
    return {
        "empty": empty,
        "insert": lambda states, state, lane: insert(
            states, jax.device_put(state, whole), np.int32(lane)
        ),
        "take": lambda states, lane: jax.device_put(take(states, np.int32(lane)), home),
        "reset": reset,
        "clear": lambda states, lane: clear(states, np.int32(lane)),
    }


def _placed(tree: Any, sharding: NamedSharding, *lanes: int) -> Any:
    """The shapes of a tree on a sharding, behind an axis of lanes if any are given."""
    place = functools.partial(jax.ShapeDtypeStruct, sharding=sharding)
    return jax.tree.map(lambda leaf: place((*lanes, *leaf.shape), leaf.dtype), tree)


def _idle_batch(shape: StepShape, solo: Mesh) -> dict[str, np.ndarray]:
    """A batch with a finite loss: the first token of the vocabulary throughout."""
    like = abstract_batch(shape, solo)
    batch = {name: np.zeros(array.shape, array.dtype) for name, array in like.items()}
    return {**batch, "loss_weights": np.ones_like(batch["loss_weights"])}


_IDLE_HYPER = hyperparameters(OptimizerConfig(), 0.0)
