"""Averages of parameters beside training: what they are, and that training does not see them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL, OPTIMIZER, batch, digest, one_device

from replay_jax.errors import UserError
from replay_jax.training.averaging import apart, averaged, compile_average, judged_params
from replay_jax.training.config import TrainingConfig
from replay_jax.training.loop import train_span
from replay_jax.training.metrics import TimeSplit
from replay_jax.training.span import Hooks, Programs, Span

STEPS, START = 6, 2


def train(state, start, stop, *, average_start):
    """The end of a span, and copies of the states after each of its updates."""
    mesh, _, step = one_device()
    span = Span(
        start=start,
        stop=stop,
        learning_rates=np.full(STEPS, 1e-2, np.float32),
        resets=np.zeros(STEPS, bool),
        optimizer=OPTIMIZER,
        source_names=("generic", "target"),
        points=frozenset(range(STEPS + 1)),
        average_start=average_start,
    )
    seen = {}

    def keep(at, state):
        seen[at] = jax.tree.map(jnp.copy, state)

    programs = Programs(mesh, step, None, None if average_start is None else AVERAGE())
    hooks, clock = Hooks(lambda _: None, keep, lambda _: False), TimeSplit()
    batches = (batch(seed) for seed in range(start, stop))
    end = train_span(state, span=span, programs=programs, batches=batches, hooks=hooks, clock=clock)
    return end.state, seen


def AVERAGE():
    return compile_average(MODEL, one_device()[0])


@pytest.fixture(scope="module")
def plain():
    return train(one_device()[1](0), 0, STEPS, average_start=None)


@pytest.fixture(scope="module")
def tail():
    return train(one_device()[1](0), 0, STEPS, average_start=START)


def test_the_average_is_the_mean_of_the_parameters_after_the_last_updates(plain, tail):
    (_, states), (end, seen) = plain, tail
    for step in range(1, STEPS + 1):
        trained, average = apart(seen[step])
        assert digest(trained) == digest(states[step]), "training is what it is without"
        if step <= START:
            assert average is None
            continue
        tree = [states[at].params for at in range(START + 1, step + 1)]
        mean = jax.tree.map(lambda *leaves: np.mean(np.float64(leaves), axis=0), *tree)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=3e-7), average, mean
        )
    assert digest(judged_params(seen[START], MODEL)) == digest(seen[START].params)
    assert digest(judged_params(end, MODEL)) == digest(end.average) != digest(end.params)


@pytest.mark.parametrize("at", [START, START + 2])
def test_going_on_from_any_state_gives_the_same_bits(tail, at):
    end, seen = tail
    again, _ = train(jax.tree.map(jnp.copy, seen[at]), at, STEPS, average_start=START)
    assert digest(again) == digest(end)


def test_weights_of_one_and_nought_are_exact():
    old, new = np.float32([1 / 3, 1e-30, 3e7]), np.float32([1e9, -1 / 7, 2e-9])
    assert digest(averaged(old, new, jnp.float32(1))) == digest(new)
    assert digest(averaged(old, new, jnp.float32(0))) == digest(old)
    # A lane may have been left by one that diverged.
    assert digest(averaged(old * np.float32("nan"), new, jnp.float32(1))) == digest(new)


@pytest.mark.parametrize(("share", "start"), [(0.0, 12), (0.25, 9), (0.01, 11), (1.0, 0)])
def test_the_share_of_a_run_that_is_averaged(share, start):
    training = TrainingConfig(8, 16, average_last=share)
    assert training.average_start(12) == start
    assert (training.average_bytes(MODEL) > 0) == (share > 0)


def test_a_share_beyond_a_run_is_refused():
    with pytest.raises(UserError, match=r"average_last is 1\.5; it is a share"):
        TrainingConfig(8, 16, average_last=1.5)
