"""Lanes of one program: what each gives does not depend on its place, its neighbours, or failures,
and agrees with the same model trained alone.
"""

import dataclasses

import jax
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo
from tiny_training import LENGTH, MODEL, OPTIMIZER, ROWS, SHAPE, batch, digest, one_device, run

from replay_jax.compile.bench import bench_population
from replay_jax.config.execution import ExecutionConfig
from replay_jax.errors import UserError
from replay_jax.sweep.train.shared_time import SharedTime
from replay_jax.training.config import StepShape
from replay_jax.training.metrics import TimeSplit
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.population import abstract_arguments, compile_population, population_step
from replay_jax.training.step import reset_optimizer

LANES, STEPS = 8, 8
DECAYED = dataclasses.replace(OPTIMIZER, weight_decay=0.5)


@dataclasses.dataclass(frozen=True)
class Run:
    """A seed, the first of its batches, its rate and optimizer."""

    seed: int
    first: int
    rate: float
    optimizer: object = OPTIMIZER


@pytest.fixture(scope="module")
def population():
    """Eight lanes on the eight fake devices."""
    return compile_population(SHAPE, LANES)


@pytest.fixture(scope="module")
def stacked():
    """Two lanes on one device."""
    return compile_population(SHAPE, 2, jax.devices()[:1])


def train(population, runs, steps):
    """Train runs by lane; the final states, and the losses of every step by lane."""
    _, init, _ = one_device()
    states, losses = population.empty(), {lane: [] for lane in runs}
    for lane, one in runs.items():
        states = population.insert(states, init(one.seed), lane)
    by_lane = [runs.get(lane) for lane in range(population.lanes)]
    hyper = population.place_hyper([r and hyperparameters(r.optimizer, r.rate) for r in by_lane])
    for step in range(steps):
        placed = population.place_batches([r and batch(r.first + step) for r in by_lane])
        states, metrics = population.step(states, placed, hyper)
        of_lanes = np.asarray(metrics.nats.sum(1) / metrics.weights.sum(1))
        for lane in runs:
            losses[lane].append(float(of_lanes[lane]))
    return {lane: population.take(states, lane) for lane in runs}, losses


def test_lanes_agree_with_the_same_models_alone(population, stacked):
    runs = {
        0: Run(0, 100, 3e-3),
        1: Run(1, 100, 1e-3),
        2: Run(1, 500, 3e-3),
        5: Run(1, 500, 3e-3, DECAYED),
    }
    _, many = train(population, runs, STEPS)
    _, two = train(stacked, {0: runs[0], 1: runs[5]}, STEPS)
    mesh, init, step = one_device()
    for lane, one in runs.items():
        _, seen = run(
            step, init(one.seed), mesh, range(one.first, one.first + STEPS),
            learning_rate=one.rate, optimizer=one.optimizer,
        )  # fmt: skip
        alone = [loss for loss, _ in seen]
        np.testing.assert_allclose(many[lane], alone, rtol=1e-5)
        if lane in (0, 5):
            np.testing.assert_allclose(two[0 if lane == 0 else 1], alone, rtol=1e-5)
    # They are different runs, decay among them: that they agree says something.
    assert len({losses[-1] for losses in many.values()}) == len(runs)


@pytest.mark.parametrize("programs", ["population", "stacked"])
def test_a_lane_depends_on_nothing_around_it(programs, request):
    population = request.getfixturevalue(programs)
    mine, last = Run(1, 100, 1e-2), population.lanes - 1
    alone, _ = train(population, {0: mine}, 5)
    others = {lane: Run(lane, 1000 * lane, 1e30) for lane in range(last)}
    among, losses = train(population, {**others, last: mine}, 5)
    assert digest(among[last]) == digest(alone[0])
    assert not np.isfinite(losses[0][-1]), "the neighbours were to become infinite"


def test_idle_lanes_stay_zero(population):
    states, _ = train(population, {1: Run(1, 100, 1e-2)}, 3)
    empty = population.empty()
    hyper = population.place_hyper([None] * LANES)
    batches = population.place_batches([None] * LANES)
    for _ in range(3):
        empty, metrics = population.step(empty, batches, hyper)
    assert np.isfinite(np.asarray(metrics.nats)).all()
    for lane in (0, LANES - 1):
        state = population.take(empty, lane)
        assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(state.params))
    # A lane that was taken out and put elsewhere is the same; clearing empties no other.
    empty = population.clear(population.insert(empty, states[1], 3), 2)
    assert digest(population.take(empty, 3)) == digest(states[1])
    cleared = population.take(population.clear(empty, 3), 3)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(cleared))


def test_optimizers_are_reset_lane_by_lane(population):
    mine = Run(1, 100, 1e-2)
    states, _ = train(population, {0: mine, 4: mine}, 3)
    both = population.insert(population.insert(population.empty(), states[0], 0), states[4], 4)
    both = population.reset(both, np.arange(LANES) == 4)
    assert digest(population.take(both, 0)) == digest(states[0])
    assert digest(population.take(both, 4)) == digest(reset_optimizer(states[4], MODEL))
    assert digest(states[4]) != digest(reset_optimizer(states[4], MODEL))


@pytest.mark.parametrize(("platform", "kernel"), [("tpu", "tpu_custom_call"), ("cuda", "fmha")])
def test_lanes_use_the_kernels_of_accelerators(platform, kernel, population, monkeypatch):
    """Lowered for a platform that is not here; documents are kept apart, which has its own rule."""
    # Without a GPU, JAX asks in vain which cuDNN there is.
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda _: True)
    model = dataclasses.replace(MODEL, compute_dtype="bfloat16", embed_dim=256)
    shape = StepShape(model, batch_size=2, seq_len=64, sources=2, document_mask=True)
    step = population_step(shape, population.mesh, platform=platform)
    arguments = abstract_arguments(shape, LANES, population.mesh, population.solo)
    lowered = jax.jit(step).trace(*arguments).lower(lowering_platforms=(platform,))
    assert kernel in lowered.as_text()


def test_lanes_must_divide_over_the_devices():
    with pytest.raises(UserError, match="population 12 does not divide over 8 devices; 16"):
        compile_population(SHAPE, 12)


def test_the_bench_compares_equal_work():
    with pytest.raises(UserError, match="2 or more"):
        bench_population(MODEL, seq_len=8, batch_size=4, lanes=1)
    # The shapes of the programs that this module has compiled already.
    found = bench_population(MODEL, seq_len=LENGTH, batch_size=ROWS, lanes=2, rounds=1)
    tokens = ROWS * LENGTH
    assert found.run_tokens_per_second == pytest.approx(2 * tokens / found.seconds_per_step)
    assert found.solo_run_tokens_per_second == pytest.approx(tokens / found.solo_seconds_per_step)
    ratio = found.run_tokens_per_second / found.solo_run_tokens_per_second
    assert found.speedup == pytest.approx(ratio)


def test_seconds_of_lanes_add_up_to_the_wall():
    now = [0.0]
    shared = SharedTime(3, lambda: now[0])
    clocks = [TimeSplit(shared.clock(lane)) for lane in range(3)]
    shared.join(0)
    with clocks[0].measure("train"), clocks[1].measure("train"):
        now[0] += 4.0
        shared.join(1)
        now[0] += 6.0
        with shared.only(1), clocks[1].measure("evaluate"):
            now[0] += 5.0
        shared.leave(0)
        now[0] += 1.0
    shared.leave(1)
    now[0] += 100.0
    assert clocks[0].seconds["train"] == 4.0 + 3.0
    assert clocks[1].seconds["train"] == 3.0 + 1.0
    assert clocks[1].seconds["evaluate"] == 5.0
    assert sum(sum(clock.seconds.values()) for clock in clocks) == 16.0


def test_executors_that_train_every_edge_alone_refuse_lanes():
    with pytest.raises(UserError, match="executor 'ray' trains every edge alone"):
        ExecutionConfig("ray", 0, 0, False, (), None, 4, True)
    with pytest.raises(UserError, match="population must be 1"):
        ExecutionConfig("local", 0, 0, False, (), None, -1, True)
