"""The average of a run's parameters over its last updates, beside training, which never sees it.

A run that averages (`training.average_last`) is measured, kept and exported with the mean of its
parameters after each of those updates, every one weighing the same: tail averaging (Polyak and
Juditsky 1992; stochastic weight averaging, arXiv 1803.05407). The update is the very program of a
run without averages, so averages change no bit of training. They are of what is trained alone.

    average_n = (1 - 1 / n) average_(n - 1) + 1 / n parameters_n
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from replay_jax.model.architecture import ModelConfig
from replay_jax.training.config import ADAMW, OptimizerKind
from replay_jax.training.mesh.sharding import replicated, shardings_of
from replay_jax.training.step import TrainState, abstract_state, place_hyper
from replay_jax.training.trainable import joined, split

# (average of n - 1, parameters, n) -> average of n; that of none is None. The first is consumed.
Averager = Callable[[Any, Any, int], Any]


class AveragedState(TrainState):
    """A train state with the average so far of its trained parameters, in a tree like these."""

    average: Any


def with_average(state: TrainState, average: Any) -> TrainState:
    """The state with an average beside it; None is none."""
    if average is None:
        return state
    return AveragedState(state.step, state.params, state.opt_state, average)


def apart(state: TrainState) -> tuple[TrainState, Any]:
    """The inverse of `with_average`: what is trained on, and the average or None."""
    if isinstance(state, AveragedState):
        return TrainState(state.step, state.params, state.opt_state), state.average
    return state, None


def judged_params(state: TrainState, model: ModelConfig) -> Any:
    """The parameters that are measured and kept of a state: the average, where there is one."""
    plain, average = apart(state)
    if average is None:
        return plain.params
    return joined(average, split(plain.params, model)[1])


def abstract_averaged(like: TrainState, model: ModelConfig) -> TrainState:
    """Shapes, dtypes and shardings of a state with an average, given those of one without."""
    return with_average(like, split(like.params, model)[0])


def averaged(average: Any, trained: Any, weight: jax.Array) -> Any:
    """The average once `trained` is part of it, with its weight in [0, 1] (float32 scalar).

    At 1 it is `trained`, whatever was before, and at 0 it stays what it was, to the bit.
    """

    def one(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(weight < 1, (1 - weight) * old + weight * new, new)

    return jax.tree.map(one, average, trained)


def compile_average(model: ModelConfig, mesh: Mesh, optimizer: OptimizerKind = ADAMW) -> Averager:
    """Compile `averaged` for the states of a mesh."""
    like, _ = split(abstract_state(model, mesh, optimizer).params, model)
    weight = jax.ShapeDtypeStruct((), jnp.float32, sharding=replicated(mesh))
    places = shardings_of(like)
    program = jax.jit(averaged, donate_argnums=0, out_shardings=places)
    compiled = program.lower(like, like, weight).compile()
    # Compiled, as the arrays may lie on several hosts.
    copied = jax.jit(lambda trained: jax.tree.map(jnp.copy, trained), out_shardings=places)

    def average(before: Any, params: Any, count: int) -> Any:
        trained, _ = split(params, model)
        if before is None:  # a copy, as the next update consumes the parameters
            return copied(trained)
        share = place_hyper({"weight": np.float32(1 / count)}, mesh)["weight"]
        return compiled(before, trained, share)

    return average
