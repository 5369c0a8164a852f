"""The decoder: causality, independence of rows and documents, equal forms, parts by hand."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from replay_jax.model.architecture import ModelConfig, RopeConfig, parameter_counts
from replay_jax.model.decoder import (
    ACTIVATION_AXES,
    LOGICAL_AXES,
    PARAMETER_AXES,
    build_transformer,
    head_kernel,
)
from replay_jax.model.layers import rms_norm, rope_frequencies, rope_tables, rotate, swiglu
from replay_jax.model.presets import preset, shape_model

MODEL = shape_model("16,24,2,4,2,32")
LENGTH = 8


def tokens(rows: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 32, (rows, LENGTH)).astype(np.int32)


@functools.cache
def parameters(config: ModelConfig) -> Any:
    """Parameters with every norm's scale away from one, so that none can hide.

    By NumPy: out of a program, JAX compiles each operation for each shape.
    """
    boxed = jax.jit(build_transformer(config, platform="cpu").init)(jax.random.key(0), tokens())
    params = nn.meta.unbox(boxed)["params"]

    def moved(x: jax.Array) -> np.ndarray:
        wave = 0.1 * np.cos(np.arange(x.size, dtype=np.float32)).reshape(x.shape)
        return np.asarray(x) + wave.astype(np.float32)

    return jax.tree.map(moved, params)


def hidden(config: ModelConfig, params: Any, inputs_BL: Any, *rest: Any) -> jax.Array:
    return build_transformer(config, platform="cpu").apply({"params": params}, inputs_BL, *rest)


def stacked(params: Any) -> dict[str, Any]:
    """The parameters of the unrolled model as those of the scanned one."""
    names = [f"layer_{index}" for index in range(MODEL.num_layers)]
    layers = jax.tree.map(lambda *each: jnp.stack(each), *(params[name] for name in names))
    rest = {name: value for name, value in params.items() if name not in names}
    return {**rest, "layers": layers}


@functools.cache
@functools.cache
def hidden_and_gradient(config: ModelConfig) -> Any:
    """Final states and a gradient of all parameters, as those of the unrolled model."""
    params = parameters(MODEL)
    scanned = config.layer_loop == "scan"

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        x_BLD = hidden(config, stacked(params) if scanned else params, tokens())
        return jnp.sum(jnp.sin(3 * x_BLD)), x_BLD

    gradient, x_BLD = jax.jit(jax.grad(loss, has_aux=True))(params)
    return x_BLD, gradient


def test_causality_by_gradient() -> None:
    """The state at position 4 depends on the embeddings of 0 to 4, each, and on no later one."""
    distinct = np.arange(LENGTH)[None]

    def state(embedding_VD: jax.Array) -> jax.Array:
        params = {**parameters(MODEL), "embedding": embedding_VD}
        return jnp.sum(jnp.square(hidden(MODEL, params, distinct)[0, 4]))

    gradient_VD = jax.jit(jax.grad(state))(parameters(MODEL)["embedding"])
    moved = np.abs(gradient_VD).sum(axis=1) > 0
    assert moved.tolist() == [True] * 5 + [False] * 27


def test_rows_are_independent() -> None:
    run = jax.jit(functools.partial(hidden, MODEL))
    order = [2, 0, 1]
    one = np.asarray(run(parameters(MODEL), tokens()))[order]
    np.testing.assert_array_equal(one, run(parameters(MODEL), tokens()[order]))
    assert not np.array_equal(one[0], one[1])


def test_documents_are_independent() -> None:
    """With segments, another document in front changes nothing; without, it does."""
    run = jax.jit(functools.partial(hidden, MODEL))
    segments = np.asarray([[0, 0, 0, 1, 1, 1, 1, 1]])
    inputs, other = tokens(1), tokens(1)
    other[0, 1] = (other[0, 1] + 1) % 32
    params = parameters(MODEL)
    one, two = (np.asarray(run(params, each, segments))[0] for each in (inputs, other))
    np.testing.assert_array_equal(one[3:], two[3:])
    assert not np.array_equal(one[1], two[1])
    one, two = (np.asarray(run(params, each))[0] for each in (inputs, other))
    assert not np.array_equal(one[3:], two[3:])


FORMS = [
    dict(layer_loop="scan"),
    dict(remat="full"),
    dict(remat="matmuls"),
    dict(layer_loop="scan", remat="full"),
    dict(layer_loop="scan", remat="matmuls"),
    dict(attention="reference"),
]


@pytest.mark.parametrize("changes", FORMS, ids=lambda changes: " ".join(changes.values()))
def test_forms_are_equal(changes: dict[str, str]) -> None:
    config = dataclasses.replace(MODEL, **changes)
    assert config != MODEL and parameter_counts(config) == parameter_counts(MODEL)
    wanted, got = hidden_and_gradient(MODEL), hidden_and_gradient(config)
    for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5 * float(np.abs(one).max()))


def test_remat_policies_really_differ() -> None:
    """What the backward pass recomputes, read off the traced program."""

    def recomputed_products(config: ModelConfig) -> int:
        params = jax.eval_shape(
            build_transformer(config, platform="cpu").init, jax.random.key(0), tokens()
        )["params"]

        def loss(params: Any) -> jax.Array:
            return jnp.sum(hidden(config, nn.meta.unbox(params), tokens()))

        return str(jax.make_jaxpr(jax.grad(loss))(params)).count("dot_general")

    reference = dataclasses.replace(MODEL, attention="reference")
    none, matmuls, full = (
        recomputed_products(dataclasses.replace(reference, remat=remat))
        for remat in ("none", "matmuls", "full")
    )
    assert none <= matmuls < full


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("loop", ["unroll", "scan"])
def test_parameters_and_axes(tied: bool, loop: str) -> None:
    config = dataclasses.replace(MODEL, tied_embeddings=tied, layer_loop=loop)
    boxed = jax.eval_shape(
        build_transformer(config, platform="cpu").init, jax.random.key(0), tokens()
    )["params"]
    leaves = jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))
    assert sum(leaf.value.size for leaf in leaves) == parameter_counts(config).total
    assert all(leaf.value.dtype == jnp.float32 for leaf in leaves)
    assert all(len(leaf.names) == leaf.value.ndim for leaf in leaves)
    used = {name for leaf in leaves for name in leaf.names}
    assert used == set(PARAMETER_AXES) - (set() if loop == "scan" else {"layers"})
    assert set(LOGICAL_AXES) == set(PARAMETER_AXES) | set(ACTIVATION_AXES)
    head_DV = jax.eval_shape(lambda params: head_kernel(nn.meta.unbox(params)), boxed)
    assert head_DV.shape == (16, 32)


def test_tied_head_is_the_embedding() -> None:
    tied = build_transformer(dataclasses.replace(MODEL, tied_embeddings=True), platform="cpu")
    names = jax.eval_shape(tied.init, jax.random.key(0), tokens())["params"].keys()
    params = {name: value for name, value in parameters(MODEL).items() if name in names}
    assert params.keys() == names == parameters(MODEL).keys() - {"head"}
    np.testing.assert_array_equal(head_kernel(params), params["embedding"].T)


def test_bfloat16_compute() -> None:
    half = dataclasses.replace(MODEL, compute_dtype="bfloat16")
    got = jax.jit(functools.partial(hidden, half))(parameters(MODEL), tokens())
    exact = hidden_and_gradient(MODEL)[0]
    assert (got.dtype, exact.dtype) == (jnp.bfloat16, jnp.float32)
    exact = np.asarray(exact)
    error = float(np.abs(np.asarray(got, np.float32) - exact).max() / np.abs(exact).max())
    assert 1e-4 < error < 5e-2


def test_initial_scale() -> None:
    config = dataclasses.replace(shape_model("64,96,1,4,2,512"), init_scale=0.05)
    boxed = jax.jit(build_transformer(config, platform="cpu").init)(jax.random.key(0), tokens())
    for path, leaf in jax.tree_util.tree_leaves_with_path(nn.meta.unbox(boxed)["params"]):
        if path[-1].key == "scale":
            assert (np.asarray(leaf) == 1).all()
        else:
            assert np.asarray(leaf).std() == pytest.approx(0.05, rel=0.1)


def test_initial_draw_of_the_paper() -> None:
    """By the inputs of each matrix, cut off at three deviations; the embedding as before."""
    config = dataclasses.replace(
        shape_model("64,256,1,4,2,512"), initialization="fan_in", layer_loop="scan"
    )
    boxed = jax.jit(build_transformer(config, platform="cpu").init)(jax.random.key(0), tokens())
    inputs = {"down": 256, "embedding": None}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nn.meta.unbox(boxed)["params"]):
        name = path[-1].key
        if name == "scale":
            continue
        if name == "embedding":
            assert np.asarray(leaf).std() == pytest.approx(0.02, rel=0.05)
            continue
        unit = np.asarray(leaf) * np.sqrt(inputs.get(name, 64))
        assert float(unit.std()) == pytest.approx(0.986578, rel=0.03)  # of the cut distribution
        assert 2.5 < abs(unit).max() <= 3.0
    assert preset("150m").initialization == "fan_in"


def numpy_rotation(config: RopeConfig, width: int, x_LHK: np.ndarray) -> np.ndarray:
    """Rotary embedding written independently: wavelengths one by one, complex numbers."""
    out = x_LHK.astype(np.float64).copy()
    for pair in range(width // 2):
        frequency = config.theta ** (-2 * pair / width)
        if config.scaling == "llama3":
            wavelength = 2 * np.pi / frequency
            low = config.original_length / config.low_freq_factor
            high = config.original_length / config.high_freq_factor
            if wavelength > low:
                frequency /= config.factor
            elif wavelength >= high:
                smooth = (config.original_length / wavelength - config.low_freq_factor) / (
                    config.high_freq_factor - config.low_freq_factor
                )
                frequency = (1 - smooth) * frequency / config.factor + smooth * frequency
        if config.scaling == "linear":
            frequency /= config.factor
        if config.scaling == "yarn":
            frequency *= yarn_share(config, pair, width)
        number = x_LHK[..., pair] + 1j * x_LHK[..., pair + width // 2]
        turned = number * np.exp(1j * frequency * np.arange(len(x_LHK)))[:, None]
        out[..., pair], out[..., pair + width // 2] = turned.real, turned.imag
    return out * (1.2079441541679836 if config.scaling == "yarn" else 1.0)


def yarn_share(config: RopeConfig, pair: int, width: int) -> float:
    """YaRN by hand for theta 500,000, 8,192 positions, heads of 128, betas 1 and 32, factor 8.

    32 turns are those of pair 18.08 and one that of pair 34.98: kept up to 18, divided from 35.
    """
    assert (config.theta, config.original_length, width) == (500_000.0, 8192, 128)
    kept = min(max((35 - pair) / (35 - 18), 0.0), 1.0)
    return kept + (1 - kept) / 8


@pytest.mark.parametrize(
    "config",
    [
        RopeConfig(),
        RopeConfig(500_000.0, "llama3"),
        RopeConfig(500_000.0, "llama3", factor=32.0),
        RopeConfig(1e6, "linear", factor=8.0),
        RopeConfig(500_000.0, "yarn", 8.0, 1.0, 32.0, 8192),
    ],
)
def test_rotary_embedding(config: RopeConfig) -> None:
    width, length = 128, 50
    x_LHK = np.random.default_rng(0).normal(size=(length, 2, width)).astype(np.float32)
    got = rotate(jnp.asarray(x_LHK)[None], rope_tables(config, width, length))[0]
    np.testing.assert_allclose(got, numpy_rotation(config, width, x_LHK), atol=1e-5)


def test_llama3_stretches_only_long_wavelengths() -> None:
    plain = rope_frequencies(RopeConfig(500_000.0), 128)
    stretched = rope_frequencies(RopeConfig(500_000.0, "llama3", factor=8.0), 128)
    ratio = plain / stretched
    assert ratio[0] == 1.0 and ratio[-1] == pytest.approx(8.0)
    assert (np.diff(ratio) >= -1e-12).all() and ((1.0 < ratio) & (ratio < 8.0)).any()


def test_hand_written_gradients() -> None:
    """Norm and SwiGLU against automatic differentiation of the textbook formulas."""

    def norm(x_D: jax.Array, scale_D: jax.Array) -> jax.Array:
        return x_D / jnp.sqrt(jnp.mean(x_D**2, -1, keepdims=True) + 1e-5) * scale_D[None, None]

    def glu(gate: jax.Array, up: jax.Array) -> jax.Array:
        return gate / (1 + jnp.exp(-gate)) * up

    random = np.random.default_rng(0)
    x, y, dout = (jnp.asarray(random.normal(size=(2, 3, 8)).astype(np.float32)) for _ in range(3))
    scale = jnp.asarray(random.normal(size=8).astype(np.float32))
    cases = [
        (lambda x, s: rms_norm(x, s, 1e-5), norm, (x, scale)),
        (swiglu, glu, (4 * x, y)),
    ]
    for ours, textbook, arguments in cases:

        @functools.partial(jax.jit, static_argnums=0)
        def run(function, arguments, dout):  # type: ignore[no-untyped-def]
            out, pull = jax.vjp(function, *arguments)
            return out, *pull(dout)

        for got, wanted in zip(
            run(ours, arguments, dout), run(textbook, arguments, dout), strict=True
        ):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_swiglu_far_out_is_finite() -> None:
    far = jnp.asarray([-1e4, -100.0, 100.0, 1e4])
    out, pull = jax.vjp(swiglu, far, jnp.ones(4))
    np.testing.assert_allclose(out, [0, 0, 100, 1e4], atol=1e-30)
    np.testing.assert_allclose(pull(jnp.ones(4))[0], [0, 0, 1, 1], atol=1e-30)
