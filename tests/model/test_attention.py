"""Every form of attention against the reference: values, gradients, masks, grouped heads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from replay_jax.errors import UserError
from replay_jax.model import attention
from replay_jax.model.attention import make_attention, reference_attention, resolve_attention
from replay_jax.model.placement import Placement

GROUPS, WIDTH = 2, 16


def operands(batch: int, length: int, heads: int) -> tuple[jax.Array, ...]:
    """Queries, keys, values and the output's cotangent."""
    random = np.random.default_rng(length)
    shapes = ((heads,), (GROUPS,), (GROUPS,), (heads,))
    return tuple(
        jnp.asarray(random.normal(size=(batch, length, *shape, WIDTH)).astype(np.float32))
        for shape in shapes
    )


def documents(batch: int, length: int) -> jax.Array:
    """Segment ids of a few documents for each row, at different places."""
    random = np.random.default_rng(0)
    return jnp.asarray(np.sort(random.integers(0, 4, (batch, length)), axis=1).astype(np.int32))


def on_mesh() -> Placement:
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("replica", "fsdp", "tensor"))
    return Placement(mesh, ("replica", "fsdp"), heads_axis="tensor")


def values_and_gradients(attend, arrays, segments_BL):  # type: ignore[no-untyped-def]
    """Outputs and the gradients of queries, keys and values."""

    @jax.jit
    def run(q, k, v, dout):  # type: ignore[no-untyped-def]
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, segments_BL), q, k, v)
        return out, *pull(dout)

    return run(*arrays)


def assert_equals_reference(attend, arrays, segments_BL, **scores):  # type: ignore[no-untyped-def]
    got = values_and_gradients(attend, arrays, segments_BL)
    definition = functools.partial(reference_attention, **scores)
    wanted = values_and_gradients(definition, arrays, segments_BL)
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


SCORES = {"window": 140, "scale": 0.4}  # beyond one block, and within the next


@pytest.mark.parametrize(
    ("heads", "masked", "scores"), [(2, False, {}), (2, True, {}), (4, False, SCORES)]
)
def test_blockwise(heads: int, masked: bool, scores: dict) -> None:
    """Three blocks, the last one short; documents of shared heads are tried on a mesh."""
    segments = documents(2, 300) if masked else None
    attend = make_attention("blockwise", platform="cpu", **scores)
    assert_equals_reference(attend, operands(2, 300, heads), segments, **scores)


@pytest.mark.parametrize(("masked", "scores"), [(False, {"window": 100, "scale": 0.4}), (True, {})])
def test_splash(masked: bool, scores: dict) -> None:
    """The TPU kernel, interpreted; 130 positions are padded to 256."""
    segments = documents(1, 130) if masked else None
    attend = make_attention("splash", platform="tpu", interpret=True, **scores)
    assert_equals_reference(attend, operands(1, 130, 4), segments, **scores)


@pytest.mark.parametrize(("masked", "scores"), [(False, {}), (True, {"window": 7, "scale": 0.4})])
def test_cudnn_call(masked: bool, scores: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of cuDNN, answered by JAX's own implementation of the same function."""
    asked = []
    original = jax.nn.dot_product_attention

    def on_cpu(*arrays, implementation, **keywords):  # type: ignore[no-untyped-def]
        asked.append(implementation)
        return original(*arrays, implementation="xla", **keywords)

    monkeypatch.setattr(jax.nn, "dot_product_attention", on_cpu)
    monkeypatch.setattr(attention, "cudnn_takes", lambda *_, **__: True)  # float32 too, for once
    segments = documents(2, 40) if masked else None
    attend = make_attention("cudnn", platform="gpu", **scores)
    assert_equals_reference(attend, operands(2, 40, 4), segments, **scores)
    assert asked == ["cudnn"]


def test_what_cudnn_does_not_take_keeps_its_window() -> None:
    """Heads of 256 as in Gemma, or float32: blockwise attention, with the same scores."""
    scores = {"window": 7, "scale": 0.4}
    attend = make_attention("auto", platform="gpu", **scores)
    assert_equals_reference(attend, operands(2, 40, 4), documents(2, 40), **scores)


@pytest.mark.parametrize("form", ["blockwise", "splash"])
def test_on_a_mesh(form: str) -> None:
    """Rows over four devices and heads over two, gradients included."""
    attend = make_attention(form, platform="cpu", placement=on_mesh(), interpret=True)
    assert_equals_reference(attend, operands(4, 32, 4), documents(4, 32))
    if form == "blockwise":
        assert_equals_reference(attend, operands(4, 32, 4), None)


def test_long_sequences_get_larger_blocks() -> None:
    attend = make_attention("blockwise", platform="cpu")
    q, k, v, _ = operands(1, 1300, 2)
    compiled = jax.jit(functools.partial(attend, segments_BL=None))
    np.testing.assert_allclose(
        compiled(q, k, v), jax.jit(reference_attention)(q, k, v, None), atol=2e-5
    )


def test_blockwise_never_reads_later_blocks() -> None:
    """Not-a-numbers beyond a block's end would spread through a masked full square."""
    q, k, v, _ = operands(1, 256, 2)
    spoilt_k, spoilt_v = (x.at[:, 128:].set(jnp.nan) for x in (k, v))
    blockwise = make_attention("blockwise", platform="cpu")
    clean = jax.jit(blockwise)(q, k, v, None)[:, :128]
    spoilt = jax.jit(blockwise)(q, spoilt_k, spoilt_v, None)[:, :128]
    assert np.array_equal(clean, spoilt)
    full = jax.jit(reference_attention)(q, spoilt_k, spoilt_v, None)[:, :128]
    assert np.isnan(full).any()


def test_reference_by_hand() -> None:
    """One head, two positions, two documents: plain softmax arithmetic."""
    q = jnp.asarray([[[1.0]], [[2.0]], [[3.0]]])[None]
    k = jnp.asarray([[[0.5]], [[-1.0]], [[2.0]]])[None]
    v = jnp.asarray([[[10.0]], [[20.0]], [[30.0]]])[None]
    weight = 1 / (1 + np.exp(2 * (0.5 - -1.0)))
    out = reference_attention(q, k, v, jnp.asarray([[0, 0, 1]]))
    np.testing.assert_allclose(out[0, :, 0, 0], [10.0, 10 + 10 * weight, 30.0], rtol=1e-6)
    alone = reference_attention(q, k, v, None, window=1)
    np.testing.assert_allclose(alone[0, :, 0, 0], [10.0, 20.0, 30.0], rtol=1e-6)
    weight = 1 / (1 + np.exp(0.5 * 2 * (0.5 - -1.0)))
    flatter = reference_attention(q, k, v, None, window=2, scale=0.5)
    np.testing.assert_allclose(flatter[0, 1, 0, 0], 10 + 10 * weight, rtol=1e-6)


def test_choice_by_platform() -> None:
    assert resolve_attention("auto", "cpu") == "blockwise"
    assert resolve_attention("auto", "tpu") == "splash"
    assert resolve_attention("auto", "gpu") == resolve_attention("auto", "cuda") == "cudnn"
    assert resolve_attention("reference", "tpu") == "reference"
    with pytest.raises(UserError, match="platform 'metal'"):
        resolve_attention("auto", "metal")
