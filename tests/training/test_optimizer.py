"""AdamW: one update by hand, the decay mask, and hyperparameters as arguments."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL

from replay_jax.errors import UserError
from replay_jax.training.config import OptimizerConfig
from replay_jax.training.optimizer import (
    apply_gradients,
    decay_mask,
    hyperparameters,
    init_optimizer,
)
from replay_jax.training.step import init_state

CONFIG = OptimizerConfig(b1=0.8, b2=0.9, epsilon=1e-3, weight_decay=0.3, clip_norm=0.5)
PARAMS = {
    "layer_0": {"query": np.array([[1.0, -2.0], [0.5, 3.0]], np.float32)},
    "norm": {"scale": np.array([1.0, 1.5], np.float32)},
    "embedding": np.array([[0.1, 0.2]], np.float32),
}
GRADIENTS = {
    "layer_0": {"query": np.array([[0.3, -0.6], [0.9, 0.2]], np.float32)},
    "norm": {"scale": np.array([-0.5, 0.4], np.float32)},
    "embedding": np.array([[0.7, 0.0]], np.float32),
}


def by_hand(params, gradients, moments, *, count, learning_rate, decayed, scale):
    """AdamW of one array in float64, straight from arXiv 1711.05101 with decay after Adam."""
    first, second = moments
    gradients = gradients.astype(np.float64) * scale
    first = CONFIG.b1 * first + (1 - CONFIG.b1) * gradients
    second = CONFIG.b2 * second + (1 - CONFIG.b2) * gradients**2
    unbiased = first / (1 - CONFIG.b1**count), second / (1 - CONFIG.b2**count)
    update = unbiased[0] / (np.sqrt(unbiased[1]) + CONFIG.epsilon)
    update = update + (CONFIG.weight_decay * params if decayed else 0.0)
    return params - learning_rate * update, (first, second)


def test_two_updates_by_hand():
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in jax.tree.leaves(GRADIENTS)))
    scale = CONFIG.clip_norm / norm
    assert scale < 1, "the clip must bite, or the test says nothing of it"
    params, state = jax.tree.map(jnp.asarray, PARAMS), init_optimizer(PARAMS)
    expected = jax.tree.map(np.float64, PARAMS)
    moments = jax.tree.map(lambda p: (np.zeros(p.shape), np.zeros(p.shape)), PARAMS)
    for count, rate in ((1, 0.1), (2, 0.05)):
        hyper = hyperparameters(CONFIG, rate)
        params, state = apply_gradients(params, state, GRADIENTS, hyper=hyper)
        for path, decayed in ((("layer_0", "query"), True), (("norm", "scale"), False)):
            (a, b) = path
            expected[a][b], moments[a][b] = by_hand(
                expected[a][b],
                GRADIENTS[a][b],
                moments[a][b],
                count=count,
                learning_rate=rate,
                decayed=decayed,
                scale=scale,
            )
            np.testing.assert_allclose(params[a][b], expected[a][b], rtol=1e-6)
    assert int(state.count) == 2


def test_gradients_below_the_clip_are_left_alone():
    small = jax.tree.map(lambda g: g * np.float32(1e-2), GRADIENTS)
    results = [
        apply_gradients(
            PARAMS,
            init_optimizer(PARAMS),
            small,
            hyper=hyperparameters(OptimizerConfig(clip_norm=clip), 0.1),
        )
        for clip in (1.0, 2.0)
    ]
    jax.tree.map(np.testing.assert_array_equal, *results)


def test_decay_reaches_matrices_and_head_but_neither_norms_nor_embedding():
    params = jax.eval_shape(lambda: init_state(MODEL, 0)).params
    mask = decay_mask(params)
    flat = {
        "/".join(str(key.key) for key in path): decayed
        for path, decayed in jax.tree_util.tree_flatten_with_path(mask)[0]
    }
    assert {name for name, decayed in flat.items() if not decayed} == {
        "embedding",
        "final_norm/scale",
        "layer_0/attention_norm/scale",
        "layer_0/mlp_norm/scale",
    }
    assert flat["head"] and flat["layer_0/query"] and flat["layer_0/down"]


def test_a_parameter_without_a_rule_is_refused():
    with pytest.raises(ValueError, match=r"\['bias'\] has no weight-decay rule"):
        decay_mask({"bias": np.zeros(2)})


def test_hyperparameters_are_arguments_of_one_program():
    chex.clear_trace_counter()
    update = jax.jit(
        chex.assert_max_traces(
            lambda params, state, gradients, hyper: apply_gradients(
                params, state, gradients, hyper=hyper
            ),
            n=1,
        )
    )
    state, results = init_optimizer(PARAMS), []
    for config, rate in (
        (CONFIG, 0.1),
        (CONFIG, 0.2),
        (OptimizerConfig(b1=0.7, b2=0.99, epsilon=1e-2, weight_decay=0.0, clip_norm=9.0), 0.1),
    ):
        hyper = hyperparameters(config, rate)
        params, _ = update(PARAMS, state, GRADIENTS, hyper)
        expected, _ = apply_gradients(PARAMS, state, GRADIENTS, hyper=hyper)
        # Fused and unfused float32 differ in the last bit of updates of about 0.1.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=2e-8), params, expected
        )
        results.append(float(params["layer_0"]["query"][0, 0]))
    assert len(set(results)) == 3


@pytest.mark.parametrize(
    "wrong",
    [{"b1": 1.0}, {"b2": -0.1}, {"epsilon": 0.0}, {"weight_decay": -1.0}, {"clip_norm": 0.0}],
)
def test_values_out_of_range_are_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"optimizer.{name} is"):
        OptimizerConfig(**wrong)


def test_an_update_copies_no_array():
    """State in place, gradients as they are: clipped ones exist only within their products."""
    side = 512
    params = {"head": jax.ShapeDtypeStruct((side, side), jnp.float32)}
    state = jax.eval_shape(init_optimizer, params)
    update = jax.jit(apply_gradients, donate_argnums=(0, 1))
    hyper = hyperparameters(CONFIG, 0.1)
    memory = update.lower(params, state, params, hyper=hyper).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 3 * 4 * side**2
    assert memory.temp_size_in_bytes < 4 * side**2 / 10
