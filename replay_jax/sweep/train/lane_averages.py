"""The averages of a population's parameters: `averaging` for all lanes side by side.

Kept beside the states, leaves [K, ...], split over the devices as these are, once a lane has one. A
lane that averages nothing has zeros, or what is left of another: its first weight is 1.

Shape letters: K lanes.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from replay_jax.training.averaging import apart, averaged, with_average
from replay_jax.training.mesh.sharding import replicated
from replay_jax.training.population import Population
from replay_jax.training.step import TrainState, abstract_state
from replay_jax.training.trainable import split


class LaneAverages:
    """Averages of the trained parameters of a population's lanes; compiled when first used."""

    def __init__(self, population: Population) -> None:
        self._population, self._model = population, population.shape.model
        self._over, self._whole = population.over_lanes, replicated(population.mesh)
        keep: dict[str, Any] = {"donate_argnums": 0, "out_shardings": self._over}
        self._add = jax.jit(jax.vmap(averaged), **keep)
        self._put = jax.jit(_put, **keep)
        self._averages: Any = None

    def add(self, states: TrainState, weights: Sequence[float]) -> None:
        """Take in the parameters of every lane, each with its weight [K] in [0, 1]."""
        if any(weights):
            trained, _ = split(states.params, self._model)
            placed = jax.device_put(np.array(weights, np.float32), self._over)
            self._averages = self._add(self._begun(), trained, placed)

    def insert(self, state: TrainState, lane: int) -> TrainState:
        """Keep the average that a lane's state has, if any; the state without it."""
        plain, average = apart(state)
        if average is not None:
            whole = jax.device_put(average, self._whole)
            self._averages = self._put(self._begun(), whole, np.int32(lane))
        return plain

    def beside(self, state: TrainState, lane: int) -> TrainState:
        """A lane's state, which lies on the first device, with a copy of its average."""
        like = abstract_state(self._model, self._population.solo, self._population.shape.optimizer)
        home = jax.tree.map(lambda leaf: leaf.sharding, split(like.params, self._model)[0])
        own = jax.tree.map(lambda all: all[lane], self._begun())
        return with_average(state, jax.device_put(own, home))

    def _begun(self) -> Any:
        if self._averages is None:
            self._averages, _ = split(self._population.empty().params, self._model)
        return self._averages


def _put(averages: Any, average: Any, lane: jax.Array) -> Any:
    return jax.tree.map(lambda all, one: all.at[lane].set(one), averages, average)
