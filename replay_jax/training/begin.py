"""The state before the first update of a pre-trained model."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from replay_jax.model.architecture import ModelConfig
from replay_jax.training.config import ADAMW, OptimizerKind
from replay_jax.training.mesh.sharding import shardings_of
from replay_jax.training.step import (
    TrainState,
    abstract_seed,
    abstract_state,
    begin_state,
    init_state,
    on_mesh,
    place_seed,
)
from replay_jax.training.trainable import joined, split


def given_part(params: Any, model: ModelConfig) -> Any:
    """What of the parameters a pre-trained model gives: all but adapters."""
    return params if model.lora is None else split(params, model)[1]


def adapted_state(
    params: Any, seed: jax.Array | int, model: ModelConfig, optimizer: OptimizerKind = ADAMW
) -> TrainState:
    """The state before the first update of a `given_part`, its adapters drawn from the seed."""
    if model.lora is not None:
        adapters, _ = split(init_state(model, seed, optimizer).params, model)
        params = joined(adapters, params)
    return begin_state(params, model, optimizer)


def compile_begin(
    model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind = ADAMW
) -> Callable[[Any, int], TrainState]:
    """Compile `adapted_state`: (given part, seed) -> state; the given parameters are consumed."""
    state = abstract_state(model, mesh, optimizer)
    begin = functools.partial(adapted_state, model=model, optimizer=optimizer)
    jitted = jax.jit(begin, donate_argnums=0, out_shardings=shardings_of(state))
    with on_mesh(mesh):
        program = jitted.lower(given_part(state.params, model), abstract_seed(mesh)).compile()
    return lambda params, seed: program(params, place_seed(seed, mesh))
