"""Learning-rate boundaries and values, exactly, and against Optax."""

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate, learning_rates


def rate(shape="linear", warmup=0.01, decay=0.1, final=0.0, peak=3e-3):
    return LearningRate(peak, shape, warmup, decay, final)


# The boundaries that arXiv 2603.04964's runs had; see the paper's appendix and Levanter.
@pytest.mark.parametrize(
    ("steps", "warmup"), [(1024, 10), (960, 9), (400, 4), (256, 2), (192, 1), (128, 1), (96, 0),
                          (64, 0)],
)  # fmt: skip
def test_warmup_steps_of_the_paper(steps, warmup):
    assert rate().warmup_steps(steps) == warmup
    values = learning_rates(rate(decay=None, shape="cosine"), steps)
    if warmup:
        assert values[0] == 0
        assert values[warmup - 1] == np.float32(3e-3 * (warmup - 1) / warmup)
    assert values[warmup] == np.float32(3e-3)
    assert values[warmup + 1] < values[warmup]


@pytest.mark.parametrize(
    ("decay", "steps"), [(0.05, 51), (0.1, 102), (0.2, 204), (0.5, 512), (0.99, 1013)]
)
def test_decay_steps_of_the_paper(decay, steps):
    assert rate(decay=decay).decay_steps(1024) == steps


def test_warmup_stable_decay_values():
    values = learning_rates(rate(), 1024)
    assert values.dtype == np.float32 and values.shape == (1024,)
    assert values[0] == 0 and values[9] == np.float32(0.9 * 3e-3)
    assert (values[10:923] == np.float32(3e-3)).all()  # 912 stable steps and the first of the decay
    assert values[923] == np.float32(3e-3 * (1 - 1 / 102))
    assert values[1023] == np.float32(3e-3 * (1 - 101 / 102))


def test_last_step_ends_one_decrement_above_the_final_rate():
    linear = learning_rates(rate(warmup=0.0, decay=None, final=0.1, peak=1.0), 10)
    np.testing.assert_array_equal(linear, (0.1 + 0.9 * (1 - np.arange(10) / 10)).astype(np.float32))
    cosine = learning_rates(rate("cosine", warmup=0.0, decay=None, final=0.1, peak=1.0), 10)
    assert cosine[0] == 1 and cosine[5] == np.float32(0.55)
    assert cosine[-1] == np.float32(0.1 + 0.9 * (1 + np.cos(np.pi * 0.9)) / 2)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_no_decay_and_constant_are_the_same(shape):
    flat = learning_rates(rate(shape, decay=0.0), 200)
    np.testing.assert_array_equal(flat, learning_rates(rate("constant", decay=None), 200))
    assert (flat[2:] == np.float32(3e-3)).all() and flat[1] == np.float32(1.5e-3)


def test_one_step_span():
    assert learning_rates(rate(decay=None), 1).tolist() == [np.float32(3e-3)]
    with pytest.raises(UserError, match="at least one step, got 0"):
        learning_rates(rate(), 0)


@settings(deadline=None, max_examples=30)
@given(
    steps=st.sampled_from([1, 7, 64, 200]),
    shape=st.sampled_from(["cosine", "linear"]),
    warmup=st.floats(0, 0.5),
    decay=st.one_of(st.none(), st.floats(0, 0.5)),
    final=st.floats(0, 1),
)
def test_equals_joined_optax_schedules(steps, shape, warmup, decay, final):
    config = LearningRate(2e-3, shape, warmup, decay, final)
    warm, falling = config.warmup_steps(steps), config.decay_steps(steps)
    parts, ends = [], []
    if warm:
        parts, ends = [optax.linear_schedule(0.0, 2e-3, warm)], [warm]
    if steps - warm - falling:
        parts.append(optax.constant_schedule(2e-3))
        ends.append(steps - falling)
    if falling:
        parts.append(
            optax.cosine_decay_schedule(2e-3, falling, final)
            if shape == "cosine"
            else optax.linear_schedule(2e-3, 2e-3 * final, falling)
        )
    else:
        ends = ends[: len(parts) - 1]
    # One shape for all examples, so that JAX compiles once.
    expected = np.broadcast_to(optax.join_schedules(parts, ends)(np.arange(200)), 200)[:steps]
    # Optax computes in float32, so the last bits differ.
    np.testing.assert_allclose(learning_rates(config, steps), expected, rtol=2e-5, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(
    steps=st.integers(1, 500),
    shape=st.sampled_from(["cosine", "linear", "constant"]),
    warmup=st.floats(0, 0.9),
    final=st.floats(0, 1),
)
def test_rises_then_falls_within_its_range(steps, shape, warmup, final):
    config = LearningRate(1.0, shape, warmup, None, final)
    values = learning_rates(config, steps)
    warm = config.warmup_steps(steps)
    assert (np.diff(values[: warm + 1]) > 0).all()
    assert (np.diff(values[warm:]) <= 0).all()
    assert values.max() <= 1 and values[warm:].min() >= np.float32(final)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": "wsd"}, "'wsd' is not one of cosine, linear, constant"),
        ({"peak": -1.0}, "peak -1.0"),
        ({"peak": float("nan")}, "peak nan"),
        ({"warmup": 1.0}, r"warmup_fraction 1.0 must lie in \[0, 1\)"),
        ({"decay": 1.0}, "decay_fraction 1.0 has no single meaning"),
        ({"decay": 1.5}, "decay_fraction 1.5"),
        ({"decay": -0.1}, "decay_fraction -0.1"),
        ({"final": 1.1}, "final_ratio 1.1"),
        ({"warmup": 0.6, "decay": 0.5}, "0.6 and decay_fraction 0.5 do not fit"),
        ({"shape": "constant"}, "cannot decay over 0.1"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(UserError, match=message):
        rate(**changes)
