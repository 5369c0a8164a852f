"""How fast the real train step is, beside the fastest matrix product of the same process."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from replay_jax.compile.peak import matmul_peak
from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.flops import flops_per_token
from replay_jax.training.config import OptimizerConfig
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import attached_devices
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.step import (
    StepProgram,
    StepShape,
    TrainState,
    compile_init,
    compile_train_step,
    place_batch,
    place_hyper,
)


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


@dataclass
class BenchStep:
    """A compiled step with a state and a batch of random tokens to run it on."""

    state: TrainState
    run_once: Callable[[TrainState], TrainState]
    compile_seconds: float
    temporary_bytes: int
    state_bytes: int

    def seconds(self, steps: int) -> float:
        """Run `steps` updates and return the wall seconds of one."""
        start = time.perf_counter()
        for _ in range(steps):
            self.state = self.run_once(self.state)
        jax.block_until_ready(self.state)
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
    step = prepare_step(model, seq_len=seq_len, batch_size=batch_size)
    step.seconds(1)
    peaks, times = [], []
    for _ in range(rounds):
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


def prepare_step(model: ModelConfig, *, seq_len: int, batch_size: int) -> BenchStep:
    """Compile the real step for one device and give it a state and a batch of random tokens."""
    mesh = make_mesh(MeshConfig(1, 1, 1), attached_devices()[:1])
    shape = StepShape(model=model, batch_size=batch_size, seq_len=seq_len, sources=2)
    start = time.perf_counter()
    program: StepProgram = compile_train_step(shape, mesh)
    compile_seconds = time.perf_counter() - start
    tokens = np.random.default_rng(0).integers(0, model.vocab_size, (batch_size, seq_len + 1))
    tokens = tokens.astype(np.int32)
    batch = place_batch(
        {
            "inputs": tokens[:, :-1],
            "labels": tokens[:, 1:],
            "loss_weights": np.ones((batch_size, seq_len), np.float32),
            "source": np.zeros(batch_size, np.int32),
        },
        mesh,
    )
    hyper = place_hyper(hyperparameters(OptimizerConfig(), 1e-3), mesh)
    state = compile_init(model, mesh)(0)
    memory = program.memory_analysis()  # type: ignore[attr-defined]
    return BenchStep(
        state=state,
        run_once=lambda state: program(state, batch, hyper)[0],
        compile_seconds=compile_seconds,
        temporary_bytes=memory.temp_size_in_bytes,
        state_bytes=sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
    )
