"""A population's step beside the step of one model, timed in turn in the same process."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.training.config import OptimizerConfig, StepShape
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import attached_devices
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.population import HostBatch, compile_population
from replay_jax.training.step import (
    compile_init,
    compile_train_step,
    place_batch,
    place_hyper,
)

_SEED = 0


@dataclass(frozen=True)
class PopulationBench:
    """Rates of K models trained side by side and one after another on one device.

    `run_tokens_per_second` counts the tokens of all K runs (runs x tokens / s); the `solo_` rate
    is that of K runs one after another, which is that of one. `speedup` is their ratio.
    """

    population: int
    run_tokens_per_second: float
    solo_run_tokens_per_second: float
    speedup: float
    seconds_per_step: float
    solo_seconds_per_step: float


class Timed:
    """A step that goes on from its own state, and how long one takes."""

    def __init__(self, state: Any, step: Callable[[Any], Any]) -> None:
        self._state, self._step = state, step

    def seconds(self, steps: int) -> float:
        """Run `steps` updates and return the wall seconds of one."""
        start = time.perf_counter()
        for _ in range(steps):
            self._state = self._step(self._state)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - start) / steps


def bench_population(
    model: ModelConfig, *, seq_len: int, batch_size: int, lanes: int, rounds: int = 7
) -> PopulationBench:
    """Time `lanes` models side by side against one after another, on one device.

    In every round the population makes one update and the single model `lanes`, which is the same
    work; medians are taken, as other work on the machine disturbs both. Raises UserError for
    fewer than 2 lanes or a sequence longer than the model allows.
    """
    if lanes < 2:
        raise UserError(f"--population={lanes} compares nothing: give 2 or more")
    shape = StepShape(model=model, batch_size=batch_size, seq_len=seq_len, sources=2)
    devices = attached_devices()[:1]
    solo = time_solo(shape, make_mesh(MeshConfig(1, 1, 1), devices))
    population = time_population(shape, lanes, devices)
    alone, together = [], []
    for step in (solo, population):
        step.seconds(1)
    for _ in range(rounds):
        alone.append(solo.seconds(lanes))
        together.append(population.seconds(1))
    one, all_lanes = statistics.median(alone), statistics.median(together)
    tokens = batch_size * seq_len
    return PopulationBench(
        population=lanes,
        run_tokens_per_second=lanes * tokens / all_lanes,
        solo_run_tokens_per_second=tokens / one,
        speedup=lanes * one / all_lanes,
        seconds_per_step=all_lanes,
        solo_seconds_per_step=one,
    )


def time_solo(shape: StepShape, mesh: Mesh) -> Timed:
    """The compiled step of one model on a mesh, with a state and a batch of random tokens."""
    program = compile_train_step(shape, mesh)
    batch = place_batch(_random_batch(shape, _SEED), mesh)
    hyper = place_hyper(hyperparameters(OptimizerConfig(), 1e-3), mesh)
    state = compile_init(shape.model, mesh)(_SEED)
    return Timed(state, lambda state: program(state, batch, hyper)[0])


def time_population(
    shape: StepShape, lanes: int, devices: Sequence[jax.Device] | None = None
) -> Timed:
    """The compiled step of a population, every lane with its own seed and batch."""
    population = compile_population(shape, lanes, devices)
    init = compile_init(shape.model, population.solo)
    states = population.empty()
    for lane in range(lanes):
        states = population.insert(states, init(lane), lane)
    batch = population.place_batches([_random_batch(shape, lane) for lane in range(lanes)])
    hyper = population.place_hyper([hyperparameters(OptimizerConfig(), 1e-3)] * lanes)
    return Timed(states, lambda states: population.step(states, batch, hyper)[0])


def _random_batch(shape: StepShape, seed: int) -> HostBatch:
    size = (shape.batch_size, shape.seq_len + 1)
    tokens = np.random.default_rng(seed).integers(0, shape.model.vocab_size, size).astype(np.int32)
    batch = {
        "inputs": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "loss_weights": np.ones((shape.batch_size, shape.seq_len), np.float32),
        "source": np.zeros(shape.batch_size, np.int32),
    }
    if shape.document_mask:
        batch["segments"] = np.zeros((shape.batch_size, shape.seq_len), np.int32)
    return batch
