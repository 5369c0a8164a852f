"""One update as a pure function, and the compiled, sharded programs made of it.

`train_step` and `reset_optimizer` are the unjitted cores. `compile_*` lower them once for a
`StepShape` and a mesh: everything that varies between runs of equal shape (seed, learning rate,
weight decay and so on) is an argument, so one program serves them all.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.decoder import build_transformer
from replay_jax.model.placement import Placement
from replay_jax.training.config import ADAMW, OptimizerKind, StepShape
from replay_jax.training.gradient import DROPOUT_KEYS, DeviceBatch, batch_gradient
from replay_jax.training.mesh.choice import check_division
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import check_gpu, compiler_options, init_options
from replay_jax.training.mesh.sharding import (
    LOGICAL_AXIS_RULES,
    batch_sharding,
    placement,
    replicated,
    shardings_of,
    tree_shardings,
)
from replay_jax.training.optimizer import (
    HYPER_NAMES,
    Hyper,
    apply_gradients,
    init_optimizer,
    state_like_parameters,
)
from replay_jax.training.trainable import as_base, as_stored, joined, split

_DEVICE_ARRAYS = ("inputs", "labels", "loss_weights", "source", "segments", DROPOUT_KEYS)


class TrainState(flax.struct.PyTreeNode):
    """Everything that training carries from one update to the next.

    `step` counts completed updates; `opt_state` counts its own, from its last reset.
    """

    step: jax.Array
    params: Any
    opt_state: Any


class StepMetrics(flax.struct.PyTreeNode):
    """Sums of one update, float32: divide once, on the host.

    `nats` and `weights` are per source: the sum of loss weight times nats, and the sum of loss
    weights (with weights of one, the number of labels). `minimised` has the KL of `kl_sources` in
    place of their nats, None where there are none. `gradient_norm` is taken before clipping,
    `parameter_norm` after the update, both of what is trained.
    """

    nats: jax.Array
    weights: jax.Array
    gradient_norm: jax.Array
    parameter_norm: jax.Array
    minimised: jax.Array | None = None


StepProgram = Callable[..., tuple[TrainState, StepMetrics]]


def init_state(
    model: ModelConfig, seed: jax.Array | int, optimizer: OptimizerKind = ADAMW
) -> TrainState:
    """The state before the first update; a pure function of model and seed (uint32).

    The result does not depend on how it is sharded (JAX's random bits are partitionable).
    """
    drawn = nn.meta.unbox(_init_boxed(model, seed))
    return begin_state(as_stored(drawn, model), model, optimizer)


def begin_state(params: Any, model: ModelConfig, optimizer: OptimizerKind = ADAMW) -> TrainState:
    """The state before the first update of given parameters, adapters among them."""
    trained, _ = split(params, model)
    return TrainState(jnp.zeros((), jnp.int32), params, init_optimizer(trained, optimizer))


def train_step(
    state: TrainState,
    batch: DeviceBatch,
    hyper: Hyper,
    *,
    shape: StepShape,
    platform: str,
    placement: Placement | None = None,
    base: Any = None,
) -> tuple[TrainState, StepMetrics]:
    """One update on a batch (`batch_gradient`); `platform` (cpu, gpu, tpu) chooses the attention.

    All weights zero gives a loss that is not a number, which the loop reports.
    """
    gradients, (nats, weights, *minimised) = batch_gradient(
        state.params, batch, shape=shape, platform=platform, placement=placement, base=base
    )
    gradient_norm = optax.tree.norm(gradients)
    trained, frozen = split(state.params, shape.model)
    trained, opt_state = apply_gradients(
        trained, state.opt_state, gradients, hyper=hyper, kind=shape.optimizer
    )
    metrics = StepMetrics(nats, weights, gradient_norm, optax.tree.norm(trained), *minimised)
    return TrainState(state.step + 1, joined(trained, frozen), opt_state), metrics


def reset_optimizer(
    state: TrainState, model: ModelConfig, optimizer: OptimizerKind = ADAMW
) -> TrainState:
    """Forget the moments and the optimizer's own count; keep the parameters and the step."""
    return state.replace(opt_state=init_optimizer(split(state.params, model)[0], optimizer))


def abstract_state(model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind = ADAMW) -> TrainState:
    """Shapes, dtypes and shardings of a state on a mesh; nothing is computed.

    Moments are split as their parameters, all else of an optimizer is whole on every device.
    Raises ValueError for a logical axis without a rule (`sharding.partition_spec`).
    """
    boxed = jax.eval_shape(lambda: _init_boxed(model, 0))
    whole, of_params = replicated(mesh), tree_shardings(boxed, mesh)
    tree = jax.eval_shape(
        lambda params: begin_state(as_stored(params, model), model, optimizer),
        nn.meta.unbox(boxed),
    )
    trained, sharded = (split(each, model)[0] for each in (tree.params, of_params))
    moments = state_like_parameters(tree.opt_state, trained, sharded, whole)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        tree.replace(step=whole, params=of_params, opt_state=moments),
    )


def abstract_batch(shape: StepShape, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, dtypes and shardings of the arrays of a batch that go to the devices."""
    rows, sharding = shape.batch_size, batch_sharding(mesh)
    tokens = jax.ShapeDtypeStruct((rows, shape.seq_len), jnp.int32, sharding=sharding)
    batch = {
        "inputs": tokens,
        "labels": tokens,
        "loss_weights": jax.ShapeDtypeStruct(tokens.shape, jnp.float32, sharding=sharding),
        "source": jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=sharding),
    }
    if shape.dropout:
        batch[DROPOUT_KEYS] = jax.ShapeDtypeStruct((rows, 2), jnp.uint32, sharding=sharding)
    return {**batch, "segments": tokens} if shape.document_mask else batch


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> DeviceBatch:
    """Put this host's rows of a batch on its devices; arrays only for the host stay behind.

    The rows are those of `sharding.mesh_host_rows`, in its order.
    """
    arrays = {name: batch[name] for name in _DEVICE_ARRAYS if name in batch}
    return jax.make_array_from_process_local_data(batch_sharding(mesh), arrays)


def place_hyper(hyper: Hyper, mesh: Mesh) -> Hyper:
    """Put hyperparameters on every device of a mesh."""
    return jax.make_array_from_process_local_data(replicated(mesh), hyper)


def lower_train_step(shape: StepShape, mesh: Mesh) -> jax.stages.Lowered:
    """Lower the sharded train step, its state donated, for the mesh's own platform.

    The mesh may be one of a topology that is not attached (ahead-of-time compilation). Raises
    UserError if the shape does not divide over the mesh or the sequences are too long.
    """
    check_shape(shape, mesh)
    state = abstract_state(shape.model, mesh, shape.optimizer)
    batch = abstract_batch(shape, mesh)
    whole = replicated(mesh)
    hyper = dict.fromkeys(HYPER_NAMES, jax.ShapeDtypeStruct((), jnp.float32, sharding=whole))
    base = [as_base(state.params, shape.model)] if shape.carries_base else []
    about = {"shape": shape, "platform": platform_of(mesh), "placement": placement(mesh)}

    def step(state: TrainState, batch: DeviceBatch, hyper: Hyper, base: Any = None) -> Any:
        return train_step(state, batch, hyper, base=base, **about)  # type: ignore[arg-type]

    # One sharding stands for all the metrics: sums are whole on every host.
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings_of(state), whole))
    with on_mesh(mesh):
        return jitted.lower(state, batch, hyper, *base)


def compile_train_step(shape: StepShape, mesh: Mesh) -> StepProgram:
    """Compile the step: (state, batch, hyper) -> (state, metrics); the given state is consumed.

    A shape that `carries_base` has it (`as_base`) for a fourth argument. It cannot be traced again:
    an argument of another shape or sharding is an error.
    """
    return lower_train_step(shape, mesh).compile(compiler_options(platform_of(mesh)))


def compile_init(
    model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind = ADAMW
) -> Callable[[int], TrainState]:
    """Compile the initialisation straight into its shardings; call it with a seed."""
    jitted = jax.jit(
        lambda seed: init_state(model, seed, optimizer),
        out_shardings=shardings_of(abstract_state(model, mesh, optimizer)),
    )
    with on_mesh(mesh):
        program = jitted.lower(abstract_seed(mesh)).compile(init_options(platform_of(mesh)))
    return lambda seed: program(place_seed(seed, mesh))


def abstract_seed(mesh: Mesh) -> jax.ShapeDtypeStruct:
    """What a compiled beginning takes."""
    return jax.ShapeDtypeStruct((), jnp.uint32, sharding=replicated(mesh))


def place_seed(seed: int, mesh: Mesh) -> jax.Array:
    """Put a seed on every device of a mesh. Raises UserError unless 32 bits hold it."""
    if not 0 <= seed < 2**32:
        raise UserError(f"seed {seed} must be in [0, 2**32).")
    return jax.make_array_from_callback((), replicated(mesh), lambda _: jnp.uint32(seed))


def compile_reset(
    model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind = ADAMW
) -> Callable[[TrainState], TrainState]:
    """Compile `reset_optimizer`; the given state is consumed."""
    state = abstract_state(model, mesh, optimizer)
    reset = functools.partial(reset_optimizer, model=model, optimizer=optimizer)
    jitted = jax.jit(reset, donate_argnums=0, out_shardings=shardings_of(state))
    return jitted.lower(state).compile()


def check_shape(shape: StepShape, mesh: Mesh, *, batch_name: str = "training.batch_size") -> None:
    """Raise UserError if a batch or a model does not fit a mesh, before anything is compiled."""
    if shape.seq_len > shape.model.max_seq_len:
        raise UserError(
            f"training.seq_len {shape.seq_len} is longer than model.max_seq_len "
            f"{shape.model.max_seq_len}; lower the one or raise the other."
        )
    check_gpu(mesh.devices.flat[0], shape.model.compute_dtype)
    config = MeshConfig(**{name: size for name, size in mesh.shape.items()})
    check_division(
        config,
        shape.model,
        batch_size=shape.batch_size,
        accumulation=shape.accumulation,
        batch_name=batch_name,
    )


@contextlib.contextmanager
def on_mesh(mesh: Mesh) -> Iterator[None]:
    """Context in which the model's logical axes mean those of the rule table on `mesh`."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(LOGICAL_AXIS_RULES):
        yield


def _init_boxed(model: ModelConfig, seed: jax.Array | int) -> Any:
    # The attention form holds no parameters, so any will do; one row of two tokens is enough.
    transformer = build_transformer(replace(model, attention="reference"), platform="cpu")
    tokens = jnp.zeros((1, 2), jnp.int32)
    return transformer.init(jax.random.key(seed), tokens)["params"]


def platform_of(mesh: Mesh) -> str:
    """The platform of a mesh's devices: "cpu", "gpu" or "tpu"."""
    return mesh.devices.flat[0].platform
