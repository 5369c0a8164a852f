"""AdamW by hand, the decay mask, hyperparameters as arguments, and the other optimizers."""

import dataclasses
import sys
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from saving import save_state
from tiny_training import MODEL, SHAPE, digest, drawn_parameters, mesh_of, run

from replay_jax.compile.fitting import bytes_of_one
from replay_jax.errors import UserError
from replay_jax.training.config import OPTIMIZERS, OptimizerConfig, OptimizerKind
from replay_jax.training.optimizer import (
    apply_gradients,
    decay_mask,
    hyperparameters,
    init_optimizer,
)
from replay_jax.training.saving.checkpoint import restore_state
from replay_jax.training.step import (
    abstract_state,
    begin_state,
    compile_reset,
    compile_train_step,
    init_state,
)

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


# An update as one program: out of one, JAX compiles each of its operations for each shape.
updated = jax.jit(apply_gradients, static_argnames="kind")


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
        params, state = updated(params, state, GRADIENTS, hyper=hyper)
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
        updated(
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


SCANNED = dataclasses.replace(MODEL, num_layers=2, layer_loop="scan")
KINDS = [OptimizerKind(name) for name in (*OPTIMIZERS, "optax:sgd")]
HALVED = OptimizerKind("muon", "bfloat16")


def halving(schedule):
    """An optimizer of the user's own, with a state of its own and a schedule."""
    return optax.chain(optax.trace(0.5), optax.scale_by_learning_rate(schedule))


def no_transformation(schedule):
    return schedule


def numbers_of(kind, mesh):
    return abstract_state(SCANNED, mesh, kind).opt_state


@pytest.mark.parametrize("kind", [*KINDS, HALVED], ids=str)
def test_what_an_optimizer_keeps_is_split_like_its_parameters(kind):
    """By name and shape; and planning, which knows no arrays, counts the same bytes."""
    mesh, single = mesh_of(2, 2, 2), mesh_of(1, 1, 1)
    params = jax.tree_util.tree_leaves_with_path(abstract_state(SCANNED, mesh).params)
    specs = {(p[-1], x.shape): x.sharding for p, x in params}
    moments = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(numbers_of(kind, mesh)):
        if (path[-1], leaf.shape) in specs:
            moments += 1
            assert leaf.sharding == specs[path[-1], leaf.shape]
            assert leaf.dtype == kind.moments_dtype
        else:
            assert leaf.sharding.is_fully_replicated
    expected = {"adamw": 2, "muon": 1, "lion": 1, "adafactor": 1, "optax:sgd": 0}[kind.name]
    # Muon keeps one moment of a layer's matrices, Adam two of embedding, head and three norms.
    assert moments == expected * len(params) + (5 if kind.name == "muon" else 0)
    if kind.name in ("adamw", "muon", "lion"):
        small = 64  # counters and Muon's coefficients
        kept = bytes_of_one(numbers_of(kind, single))
        assert 0 < kept - kind.state_bytes(SCANNED) <= small


def test_of_muon_the_embedding_and_the_head_are_adam_s():
    state = numbers_of(OptimizerKind("muon"), mesh_of(1, 1, 1)).inner_states
    names = {
        part: {str(path[-1].key) for path, leaf in leaves if path[-2:] and leaf.ndim > 1}
        for part in ("muon", "adam")
        if (leaves := [
            (path, leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(state[part])
            if hasattr(path[-1], "key")
        ])
    }  # fmt: skip
    assert names["muon"] == {"query", "key", "value", "out", "gate", "up", "down"}
    assert {"embedding", "head"} <= names["adam"]


def test_muon_turns_a_matrix_by_an_orthogonal_step_of_adam_s_size():
    """Every singular value of the step alike, and its root mean square .2 (arXiv 2502.16982)."""
    kind, random = OptimizerKind("muon"), np.random.default_rng(0)
    params = {"gate": jnp.zeros((16, 48)), "head": jnp.zeros((16, 8))}
    gradients = jax.tree.map(lambda p: jnp.asarray(random.normal(size=p.shape)), params)
    hyper = hyperparameters(OptimizerConfig(weight_decay=0.0), 1.0)
    after, _ = updated(params, init_optimizer(params, kind), gradients, hyper=hyper, kind=kind)
    step = np.asarray(after["gate"])
    values = np.linalg.svd(step, compute_uv=False)
    assert values.max() / values.min() < 2  # five Newton-Schulz iterations bring them to .7 to 1.2
    assert np.sqrt((step**2).mean()) == pytest.approx(0.2, rel=0.25)
    assert np.vdot(step, gradients["gate"]) < 0


@pytest.mark.parametrize("kind", KINDS[1:4], ids=str)
def test_decay_is_that_of_the_mask_whatever_the_rule(kind):
    params = jax.tree.map(jnp.asarray, PARAMS)
    zeros = jax.tree.map(jnp.zeros_like, params)
    if kind.name == "muon":
        params["layer_0"]["query"] = zeros["layer_0"]["query"] = jnp.ones((2, 2, 1))
        zeros = jax.tree.map(jnp.zeros_like, zeros)
    hyper = hyperparameters(CONFIG, 0.1)
    after, _ = updated(params, init_optimizer(params, kind), zeros, hyper=hyper, kind=kind)
    decayed = after["layer_0"]["query"] / params["layer_0"]["query"]
    np.testing.assert_allclose(decayed, 1 - 0.1 * CONFIG.weight_decay, rtol=1e-6)
    np.testing.assert_array_equal(after["embedding"], params["embedding"])


def test_an_optimizer_of_one_s_own_gets_clipped_gradients_and_this_update_s_rate(monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(halving=halving))
    kind = OptimizerKind("mine:halving")
    params, state = jax.tree.map(jnp.asarray, PARAMS), init_optimizer(PARAMS, kind)
    norm = float(optax.tree.norm(GRADIENTS))
    expected, kept = np.float64(PARAMS["embedding"]), 0.0
    for rate in (0.1, 0.01):
        hyper = hyperparameters(CONFIG, rate)
        params, state = apply_gradients(params, state, GRADIENTS, hyper=hyper, kind=kind)
        kept = GRADIENTS["embedding"] * CONFIG.clip_norm / norm + 0.5 * kept
        expected = expected - rate * kept
    np.testing.assert_allclose(params["embedding"], expected, rtol=1e-6)


def test_an_optimizer_that_is_none_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(no=no_transformation))
    for name, why in (
        ("nowhere_at_all:rule", "cannot be found: No module named 'nowhere_at_all'"),
        ("mine:other", "'mine:other' cannot be found"),
        ("mine:no", "returns .*, no transformation"),
    ):
        with pytest.raises(UserError, match=why):
            init_optimizer(PARAMS, OptimizerKind(name))
    with pytest.raises(UserError, match="optimizer.name is 'adam'; use adamw, muon, lion, adafac"):
        OptimizerConfig(name="adam")
    with pytest.raises(UserError, match="moments_dtype is 'int8'; use float32 or bfloat16"):
        OptimizerConfig(moments_dtype="int8")
    with pytest.raises(UserError, match="b2 0.999 is too near 1 for .*bfloat16.* at most 0.99"):
        OptimizerConfig(b2=0.999, moments_dtype="bfloat16")


def test_moments_in_bfloat16_follow_those_in_float32():
    """Rounded after every update; within what 8 bits can say (a share of 2^-8 / (1 - b))."""
    results = []
    for dtype in ("float32", "bfloat16"):
        kind = OptimizerKind(moments_dtype=dtype)
        params, state = jax.tree.map(jnp.asarray, PARAMS), init_optimizer(PARAMS, kind)
        for count in range(20):
            gradients = jax.tree.map(lambda g, c=count: g * np.float32(1 + 0.1 * c), GRADIENTS)
            hyper = hyperparameters(CONFIG, 0.01)
            params, state = updated(params, state, gradients, hyper=hyper, kind=kind)
        results.append((params, state))
    (exact, wide), (near, narrow) = results
    assert narrow.mu["embedding"].dtype == jnp.bfloat16 and narrow.count.dtype == jnp.int32
    for moment in ("mu", "nu"):
        pair = (np.float32(getattr(s, moment)["embedding"]) for s in (narrow, wide))
        np.testing.assert_allclose(*pair, rtol=2**-8 / 0.1)
    moved = np.abs(np.asarray(exact["embedding"]) - PARAMS["embedding"]).max()
    assert 0 < np.abs(near["embedding"] - exact["embedding"]).max() < 0.05 * moved


def test_a_scanned_model_on_eight_devices_trains_with_muon_is_saved_and_reset(tmp_path):
    """The state that no other optimizer resembles: masked trees, a constant, two dtypes."""
    shape = dataclasses.replace(SHAPE, model=SCANNED, optimizer=HALVED)
    mesh = mesh_of(1, 4, 2)
    step, like = compile_train_step(shape, mesh), abstract_state(SCANNED, mesh, HALVED)
    begin = jax.jit(
        lambda params: begin_state(params, SCANNED, HALVED),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, like),
    )
    state = begin(drawn_parameters(SCANNED, mesh))
    fresh = digest(state.opt_state)
    state, seen = run(step, state, mesh, [0] * 4)
    assert seen[-1][0] < seen[0][0] - 0.5
    save_state(tmp_path / "state", state, {})
    restored, _ = restore_state(tmp_path / "state", like)
    (on, said), (again, there) = (run(step, s, mesh, [1, 2]) for s in (state, restored))
    assert (digest(on), said) == (digest(again), there)
    reset = compile_reset(SCANNED, mesh, HALVED)(on)
    assert digest(reset.opt_state) == fresh and int(reset.step) == 6
