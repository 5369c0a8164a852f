"""Cross-entropy in chunks: values and gradients against NumPy, on one device and on a mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from replay_jax.model.loss import (
    LARGEST_GAP,
    LOGIT_BYTES,
    chunk_positions,
    token_losses,
    weighted_loss,
)
from replay_jax.model.placement import Placement
from replay_jax.model.presets import shape_model

BATCH, LENGTH, EMBED, VOCAB = 4, 12, 6, 22


def random_case(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hidden states, head, labels and loss weights (some zero)."""
    random = np.random.default_rng(seed)
    x_BLD = random.normal(size=(BATCH, LENGTH, EMBED)).astype(np.float32)
    head_DV = random.normal(size=(EMBED, VOCAB)).astype(np.float32)
    labels_BL = random.integers(0, VOCAB, (BATCH, LENGTH)).astype(np.int32)
    weights_BL = random.random((BATCH, LENGTH)).astype(np.float32)
    weights_BL[0, :3] = 0.0
    return x_BLD, head_DV, labels_BL, weights_BL / weights_BL.sum()


def numpy_loss(
    x_BLD: np.ndarray,
    head_DV: np.ndarray,
    labels_BL: np.ndarray,
    weights_BL: np.ndarray,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Total, nats and both gradients in float64, straight from the definition."""
    x_ND, head_DV = (
        x_BLD.reshape(-1, x_BLD.shape[-1]).astype(np.float64),
        head_DV.astype(np.float64),
    )
    weights_N, labels_N = weights_BL.reshape(-1).astype(np.float64), labels_BL.reshape(-1)
    rows_N = np.arange(len(labels_N))
    logits_NV = x_ND @ head_DV
    lse_N = np.log(np.exp(logits_NV).sum(1))
    nats_N = lse_N - logits_NV[rows_N, labels_N]
    dlogits_NV = np.exp(logits_NV - lse_N[:, None])
    dlogits_NV[rows_N, labels_N] = np.expm1(-nats_N)
    dlogits_NV *= weights_N[:, None]
    total = (weights_N * nats_N).sum()
    return (
        total,
        nats_N.reshape(labels_BL.shape),
        (dlogits_NV @ head_DV.T).reshape(x_BLD.shape),
        x_ND.T @ dlogits_NV,
    )


def on_mesh(embed_axis: str | None, vocab_axis: str | None) -> Placement:
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("replica", "fsdp", "tensor"))
    return Placement(
        mesh, ("replica", "fsdp"), vocab_axis=vocab_axis, heads_axis=None, embed_axis=embed_axis
    )


PLACEMENTS = {
    "one device": None,
    "rows": (None, None),
    "rows and vocabulary": (None, "tensor"),
    "rows, vocabulary and embed": ("fsdp", "tensor"),
}


@pytest.mark.parametrize("where", PLACEMENTS)
@pytest.mark.parametrize("chunk", [LENGTH, 3, 5])
def test_equals_numpy(where: str, chunk: int) -> None:
    case, axes = random_case(), PLACEMENTS[where]
    placement = axes and on_mesh(*axes)
    total, nats_BL, dx_BLD, dhead_DV = numpy_loss(*case)
    x_BLD, head_DV, labels_BL, weights_BL = map(jnp.asarray, case)

    def loss(x_BLD: jax.Array, head_DV: jax.Array) -> tuple[jax.Array, jax.Array]:
        return weighted_loss(
            x_BLD, head_DV, labels_BL, weights_BL, chunk=chunk, placement=placement
        )

    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (got_total, got_nats), (got_dx, got_dhead) = step(x_BLD, head_DV)
    assert got_total == pytest.approx(total, rel=2e-6)
    np.testing.assert_allclose(got_nats, nats_BL, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(got_dx, dx_BLD, atol=1e-6 * abs(dx_BLD).max() * 5)
    np.testing.assert_allclose(got_dhead, dhead_DV, atol=1e-6 * abs(dhead_DV).max() * 5)


def run_forms_of(platform: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run on the CPU what another platform runs; return the names of the forms, as they come."""
    taken: list[str] = []

    def choose(*operands, **branches):  # type: ignore[no-untyped-def]
        form = branches.get(platform, branches["default"])
        taken.append(form.__name__)
        return form(*operands)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    return taken


@pytest.mark.parametrize(
    ("platform", "forms"),
    [("cuda", {"from_label", "once"}), ("tpu", {"from_label_at_once", "twice"})],
)
def test_accelerator_forms_equal_numpy(
    monkeypatch: pytest.MonkeyPatch, platform: str, forms: set[str]
) -> None:
    """Off the CPU the label is found by its column."""
    taken = run_forms_of(platform, monkeypatch)
    test_equals_numpy("rows and vocabulary", 3)
    assert forms <= set(taken)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_sure_tokens_have_the_right_gradients(
    monkeypatch: pytest.MonkeyPatch, platform: str, dtype: str
) -> None:
    """Each token alone, sure of its label from p .5 to .9999, against float64."""
    run_forms_of(platform, monkeypatch)
    random = np.random.default_rng(0)
    head_DV = np.array(jnp.asarray(random.normal(size=(32, 64)), dtype), np.float32)
    weights_11 = np.ones((1, 1), np.float32)

    @jax.jit
    def step(x_BLD: jax.Array, head_DV: jax.Array, label_BL: jax.Array) -> tuple[jax.Array, ...]:
        def loss(x_BLD: jax.Array, head_DV: jax.Array) -> jax.Array:
            return weighted_loss(x_BLD, head_DV, label_BL, jnp.asarray(weights_11), chunk=1)[0]

        value, gradients = jax.value_and_grad(loss, (0, 1))(x_BLD, head_DV)
        return value, *gradients, token_losses(x_BLD, head_DV, label_BL, chunk=1)

    for sure in (0.5, 0.9, 0.99, 0.997, 0.999, 0.9999):
        label = int(1000 * sure) % 64
        direction = head_DV[:, label].astype(np.float64)
        scale = _scale_for(sure, direction, head_DV, label)
        x_BLD = jnp.asarray((scale * direction)[None, None], dtype)
        labels = np.array([[label]], np.int32)
        exact = np.asarray(x_BLD, np.float32)
        value, nats_BL, dx_BLD, dhead_DV = numpy_loss(exact, head_DV, labels, weights_11)
        found = step(x_BLD, jnp.asarray(head_DV), jnp.asarray(labels))
        assert float(found[0]) == pytest.approx(value, rel=5e-3)
        assert float(found[3][0, 0]) == pytest.approx(nats_BL[0, 0], rel=5e-3)
        for mine, wanted in zip(found[1:3], (dx_BLD, dhead_DV), strict=True):
            error = np.linalg.norm(np.asarray(mine, np.float64) - wanted) / np.linalg.norm(wanted)
            assert error < 0.01, (sure, error)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_no_loss_is_below_zero(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    """Although the label's logit is summed in another order than the product's."""
    run_forms_of(platform, monkeypatch)
    head_DV = np.random.default_rng(0).normal(size=(512, 64)).astype(np.float32)
    labels_BL = jnp.arange(64, dtype=jnp.int32)[None]
    losses = jax.jit(functools.partial(token_losses, chunk=64))
    nats_BL = losses(0.1 * jnp.asarray(head_DV.T)[None], jnp.asarray(head_DV), labels_BL)
    assert (np.asarray(nats_BL) >= 0).all() and nats_BL.max() < 1e-6


def _scale_for(sure: float, direction: np.ndarray, head_DV: np.ndarray, label: int) -> float:
    """How far along its own column a hidden state must lie for its label's share to be `sure`."""
    low, high = 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        logits = middle * direction @ head_DV
        share = 1 / np.exp(logits - logits[label]).sum()
        low, high = (middle, high) if share < sure else (low, middle)
    return high


def test_token_losses_for_any_use() -> None:
    x_BLD, head_DV, labels_BL, weights_BL = map(jnp.asarray, random_case(1))
    _, nats_BL, dx_BLD, dhead_DV = numpy_loss(*random_case(1))
    placed = on_mesh("fsdp", "tensor")
    for chunk, placement in ((LENGTH, None), (5, None), (4, placed)):
        losses = functools.partial(token_losses, chunk=chunk, placement=placement)
        got = jax.jit(losses)(x_BLD, head_DV, labels_BL)
        np.testing.assert_allclose(got, nats_BL, rtol=2e-5, atol=2e-6)

    def any_use(x_BLD: jax.Array, head_DV: jax.Array, placement: Placement | None) -> jax.Array:
        nats_BL = token_losses(x_BLD, head_DV, labels_BL, chunk=4, placement=placement)
        return jnp.sum(nats_BL * weights_BL)

    for placement in (None, placed):
        got_dx, got_dhead = jax.jit(jax.grad(any_use, (0, 1)), static_argnums=2)(
            x_BLD, head_DV, placement
        )
        np.testing.assert_allclose(got_dx, dx_BLD, atol=5e-6 * abs(dx_BLD).max())
        np.testing.assert_allclose(got_dhead, dhead_DV, atol=5e-6 * abs(dhead_DV).max())


def test_uniform_logits_cost_ln_v() -> None:
    x_BLD, _, labels_BL, weights_BL = map(jnp.asarray, random_case())
    loss = jax.jit(functools.partial(weighted_loss, chunk=LENGTH))
    total, nats_BL = loss(x_BLD, jnp.zeros((EMBED, VOCAB)), labels_BL, weights_BL)
    np.testing.assert_allclose(nats_BL, np.log(VOCAB), rtol=1e-6)
    assert total == pytest.approx(np.log(VOCAB), rel=1e-6)


def test_masked_label_changes_nothing() -> None:
    x_BLD, head_DV, labels_BL, weights_BL = map(jnp.asarray, random_case())
    assert weights_BL[0, 1] == 0 and weights_BL[0, 5] > 0

    @jax.jit
    def loss(labels_BL: jax.Array) -> list[jax.Array]:
        def of(x_BLD: jax.Array, head_DV: jax.Array) -> jax.Array:
            return weighted_loss(x_BLD, head_DV, labels_BL, weights_BL, chunk=4)[0]

        return jax.tree.leaves(jax.value_and_grad(of, (0, 1))(x_BLD, head_DV))

    before = loss(labels_BL)
    masked = loss(labels_BL.at[0, 1].set((labels_BL[0, 1] + 1) % VOCAB))
    counted = loss(labels_BL.at[0, 5].set((labels_BL[0, 5] + 1) % VOCAB))
    assert all(np.array_equal(a, b) for a, b in zip(before, masked, strict=True))
    assert before[0] != counted[0]


@pytest.mark.parametrize(
    ("platform", "most"), [("cpu", np.inf), ("cuda", LARGEST_GAP), ("tpu", LARGEST_GAP)]
)
def test_large_logits_stay_finite(
    monkeypatch: pytest.MonkeyPatch, platform: str, most: float
) -> None:
    """Accelerators do not tell losses apart beyond LARGEST_GAP, and the mean may lie below."""
    run_forms_of(platform, monkeypatch)
    x_BLD, head_DV, labels_BL, weights_BL = map(jnp.asarray, random_case())

    def loss(x_BLD: jax.Array) -> jax.Array:
        return weighted_loss(x_BLD, head_DV, labels_BL, weights_BL, chunk=4)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(1e4 * x_BLD)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert min(1e3, 0.9 * most) < value < most + np.log(VOCAB)


def test_bfloat16_accumulates_in_float32() -> None:
    x_BLD, head_DV, labels_BL, weights_BL = map(jnp.asarray, random_case())

    def loss(x_BLD: jax.Array, head_DV: jax.Array) -> jax.Array:
        return weighted_loss(x_BLD, head_DV, labels_BL, weights_BL, chunk=4)[0]

    rounded = x_BLD.astype(jnp.bfloat16), head_DV.astype(jnp.bfloat16).astype(jnp.float32)
    value, (dx_BLD, dhead_DV) = jax.jit(jax.value_and_grad(loss, (0, 1)))(*rounded)
    exact = jax.jit(loss)(rounded[0].astype(jnp.float32), rounded[1])
    assert (dx_BLD.dtype, dhead_DV.dtype) == (jnp.bfloat16, jnp.float32)
    assert value == pytest.approx(float(exact), rel=1e-6)


def test_memory_does_not_grow_with_sequence_times_vocabulary() -> None:
    """Temporaries of the compiled gradient: those of a chunk, whatever the length."""
    vocabulary, chunk = 4096, 32

    def temporaries(length: int, chunk: int) -> int:
        def loss(x_BLD: jax.Array, head_DV: jax.Array) -> jax.Array:
            tokens = jnp.zeros((1, length), jnp.int32)
            return weighted_loss(x_BLD, head_DV, tokens, tokens * 1.0, chunk=chunk)[0]

        shapes = ((1, length, 8), (8, vocabulary))
        arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = temporaries(256, chunk), temporaries(2048, chunk)
    logits = 4 * 2048 * vocabulary
    assert temporaries(2048, 2048) >= logits
    assert long < logits / 8
    assert long - short < logits / 100


def test_chunk_is_chosen_by_size() -> None:
    small = shape_model("64,64,1,2,2,1024")
    assert chunk_positions(small, rows=8, seq_len=512) == 512
    large = shape_model("64,64,1,2,2,131072")
    for rows, shards in ((16, 1), (16, 4), (64, 1)):
        chunk = chunk_positions(large, rows=rows, seq_len=4096, vocab_shards=shards)
        assert 4096 % chunk == 0
        used = 4 * rows * chunk * 131072 / shards  # float32
        assert LOGIT_BYTES / 2 < used <= LOGIT_BYTES
    assert chunk_positions(large, rows=10**6, seq_len=4096) == 1


def test_chunk_may_be_set() -> None:
    model = dataclasses.replace(shape_model("64,64,1,2,2,1024"), loss_chunk=100)
    # The largest divisor of the length that is no longer than asked for, unless it is short.
    assert chunk_positions(model, rows=8, seq_len=512) == 64
    assert chunk_positions(model, rows=8, seq_len=64) == 64
    # A prime length: equal chunks, as near to what was asked for as they come, the last one filled.
    assert chunk_positions(model, rows=8, seq_len=1021) == 93  # 11 chunks, 2 too many
