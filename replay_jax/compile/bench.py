"""How fast the real train step is, beside the fastest matrix product or a population's step."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from replay_jax.compile.peak import matmul_peak
from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.flops import flops_per_token
from replay_jax.progress import stage, step_by_step
from replay_jax.training.config import OptimizerConfig, StepShape
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import attached_devices
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.population import compile_population
from replay_jax.training.step import (
    compile_init,
    compile_train_step,
    place_batch,
    place_hyper,
)
from replay_jax.training.trainable import as_base

_SEED = 0
_DOCUMENT = 512


@dataclass(frozen=True)
class BenchResult:
    """Rates of one timed train step on one device; FLOPs are floating point operations.

    `flops_per_token` counts attention over the full square, as most published utilisations do;
    the `causal_` values count the half that is needed. `fraction_of_peak` divides by the rate of
    a plain matrix product of the compute dtype, measured in the same process before and after.
    """

    tokens_per_second: float
    seconds_per_step: float
    compile_seconds: float
    temporary_bytes: int
    state_bytes: int
    flops_per_token: float
    flops_per_second: float
    peak_flops_per_second: float
    fraction_of_peak: float
    causal_flops_per_token: float
    causal_flops_per_second: float
    causal_fraction_of_peak: float


class Timed:
    """A compiled step that goes on from its own state, and how long one takes."""

    def __init__(self, state: Any, step: Callable[[Any], Any]) -> None:
        self._state, self._step = state, step
        self.state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        self.temporary_bytes, self.compile_seconds = 0, 0.0

    def seconds(self, steps: int) -> float:
        """Run `steps` updates and return the wall seconds of one."""
        start = time.perf_counter()
        for _ in range(steps):
            self._state = self._step(self._state)
        jax.block_until_ready(self._state)
        return (time.perf_counter() - start) / steps


def bench(model: ModelConfig, *, seq_len: int, batch_size: int, rounds: int = 5) -> BenchResult:
    """Time the train step of `model` on one device with `batch_size` sequences of `seq_len`.

    Peak and step are measured in turn `rounds` times, and medians are taken, as other work on
    the machine disturbs both. Raises UserError for a sequence longer than the model allows,
    or for nothing to time.
    """
    if batch_size < 1 or seq_len < 1:
        raise UserError(
            f"bench needs a batch and a sequence of at least 1, not {batch_size} x {seq_len}."
        )
    if rounds < 1:
        raise UserError(f"bench needs at least 1 round, got {rounds}.")
    with stage("compiling the train step"):
        step = prepare_step(StepShape(model, batch_size, seq_len, sources=2))
        step.seconds(1)
    peaks, times = [], []
    for _ in step_by_step(range(rounds), "timing the train step"):
        peaks.append(matmul_peak(model.compute_dtype, repeats=3))
        times.append(step.seconds(1))
    seconds, peak = statistics.median(times), statistics.median(peaks)
    rate = batch_size * seq_len / seconds
    full = flops_per_token(model, seq_len, causal_half=False).total
    causal = flops_per_token(model, seq_len, causal_half=True).total
    return BenchResult(
        tokens_per_second=rate,
        seconds_per_step=seconds,
        compile_seconds=step.compile_seconds,
        temporary_bytes=step.temporary_bytes,
        state_bytes=step.state_bytes,
        flops_per_token=full,
        flops_per_second=full * rate,
        peak_flops_per_second=peak,
        fraction_of_peak=full * rate / peak,
        causal_flops_per_token=causal,
        causal_flops_per_second=causal * rate,
        causal_fraction_of_peak=causal * rate / peak,
    )


def prepare_step(shape: StepShape) -> Timed:
    """The compiled step of one model on one device, with a state and a batch of random tokens."""
    mesh = make_mesh(MeshConfig(1, 1, 1), attached_devices()[:1])
    began = time.perf_counter()
    program = compile_train_step(shape, mesh)
    compiled = time.perf_counter() - began
    batch = place_batch(random_batch(shape, _SEED), mesh)
    hyper = place_hyper(hyperparameters(OptimizerConfig(), 1e-3), mesh)
    state = compile_init(shape.model, mesh, shape.optimizer)(_SEED)
    base = [_copied_base(state.params, shape.model)] if shape.carries_base else []
    timed = Timed(state, lambda state: program(state, batch, hyper, *base)[0])
    timed.temporary_bytes = program.memory_analysis().temp_size_in_bytes  # type: ignore[attr-defined]
    timed.compile_seconds = compiled
    return timed


def _copied_base(params: Any, model: ModelConfig) -> Any:
    """The parameters as those of a model that rows are held to; a step consumes its own."""
    like = as_base(params, model)
    return jax.tree.map(lambda x, kept: jnp.array(x, kept.dtype), params, like)


def random_batch(shape: StepShape, seed: int) -> dict[str, np.ndarray]:
    """A host batch of random tokens, in documents of _DOCUMENT where they are told apart."""
    size = (shape.batch_size, shape.seq_len + 1)
    tokens = np.random.default_rng(seed).integers(0, shape.model.vocab_size, size).astype(np.int32)
    batch = {
        "inputs": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "loss_weights": np.ones((shape.batch_size, shape.seq_len), np.float32),
        "source": np.zeros(shape.batch_size, np.int32),
    }
    if shape.document_mask:
        batch["segments"] = np.indices(batch["inputs"].shape, np.int32)[1] // _DOCUMENT
    return batch


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
    programs = compile_population(shape, lanes, attached_devices()[:1])
    init = compile_init(model, programs.solo)
    states = programs.empty()
    for lane in range(lanes):
        states = programs.insert(states, init(lane), lane)
    batch = programs.place_batches([random_batch(shape, lane) for lane in range(lanes)])
    hyper = programs.place_hyper([hyperparameters(OptimizerConfig(), 1e-3)] * lanes)
    solo = prepare_step(shape)
    population = Timed(states, lambda states: programs.step(states, batch, hyper)[0])
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
