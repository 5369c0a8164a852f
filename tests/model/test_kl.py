"""KL to a base in some rows, next tokens in the others: against float64, also on a mesh."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from replay_jax.model.kl import Base, held_loss
from replay_jax.model.placement import Placement

BATCH, LENGTH, EMBED, VOCAB = 4, 12, 6, 22
HELD = np.array([True, False, True, True])


def random_case(apart=1.0):
    """Hidden states, head, labels, weights (some 0), and the base's own `apart` from them."""
    random = np.random.default_rng(0)
    states, head = random.normal(size=(BATCH, LENGTH, EMBED)), random.normal(size=(EMBED, VOCAB))
    labels = random.integers(0, VOCAB, (BATCH, LENGTH)).astype(np.int32)
    weights = random.random((BATCH, LENGTH)).astype(np.float32)
    weights[0, :3] = 0.0
    base = [x + apart * random.normal(size=x.shape) for x in (states, head)]
    every = (np.asarray(x, np.float32) for x in (states, head, weights / weights.sum(), *base))
    states, head, weights, *base = every
    return states, head, labels, weights, Base(*base, HELD)


def oracle(states, head, labels, weights, base):
    """Total, nats, KL and both gradients in float64, straight from the definitions."""
    states, head, base_states, base_head = (
        np.asarray(x, np.float64) for x in (states, head, base.x_BLD, base.head_DV)
    )
    logs, base_logs = (
        logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for logits in (states @ head, base_states @ base_head)
    )
    share, base_share = np.exp(logs), np.exp(base_logs)
    label = np.eye(head.shape[1])[labels]
    nats, kl = -(label * logs).sum(-1), (base_share * (base_logs - logs)).sum(-1)
    held = base.held_B[:, None]
    wanted = np.where(held[..., None], base_share, label)
    gradient = (share - wanted) * weights[..., None]
    total = (weights * np.where(held, kl, nats)).sum()
    return total, nats, kl, gradient @ head.T, np.einsum("bld,blv->dv", states, gradient)


def placement_of(embed_axis, vocab_axis):
    mesh = Mesh(np.array(jax.devices()).reshape(2, 2, 2), ("replica", "fsdp", "tensor"))
    return Placement(mesh, ("replica", "fsdp"), vocab_axis=vocab_axis, embed_axis=embed_axis)


@functools.cache
def step_of(chunk, axes):
    """Value and gradients, compiled once for all tests."""

    def loss(*case):
        total, *told = held_loss(*case, chunk=chunk, placement=axes and placement_of(*axes))
        return total, told

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))


def found(case, *, chunk=LENGTH, axes=None):
    """Total, nats, KL and both gradients as they are computed."""
    (total, told), gradients = step_of(chunk, axes)(*jax.tree.map(jnp.asarray, case))
    return total, *told, *gradients


@pytest.mark.parametrize(("chunk", "axes"), [(LENGTH, None), (5, None), (3, ("fsdp", "tensor"))])
def test_equals_float64(chunk, axes):
    case = random_case()
    mine = found(case, chunk=chunk, axes=axes)
    for one, wanted in zip(mine, oracle(*case), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=2e-5, atol=3e-6 * np.abs(wanted).max())


def test_at_the_base_the_kl_and_its_gradient_are_nothing():
    states, head, labels, weights, _ = random_case()
    case = (states, head, labels, weights * HELD[:, None], Base(states, head, HELD))
    total, nats, kl, dx, dhead = found(case, chunk=5)
    assert total == 0 and not np.any(kl) and np.all(nats > 0)
    assert not np.any(dx) and not np.any(dhead)


def test_near_the_base_a_kl_keeps_its_digits():
    """Of the order of 1e-7 nats, where the sum of q (ln q - ln p) in float32 has none left."""
    case = random_case(apart=1e-4)
    _, _, kl, *_ = found(case)
    _, _, wanted, *_ = oracle(*case)
    assert wanted.max() < 1e-6
    np.testing.assert_allclose(kl, wanted, rtol=2e-2)
    assert np.all(np.asarray(kl) >= 0)


def test_sure_models_that_disagree_stay_finite():
    states, head, labels, weights, base = random_case()
    case = (1e3 * states, head, labels, weights, base._replace(x_BLD=1e3 * base.x_BLD))
    total, _, kl, dx, dhead = found(case)
    assert np.max(kl) > 1e3
    assert all(np.isfinite(each).all() for each in (total, kl, dx, dhead))


def test_bfloat16_states_are_compared_in_float32():
    states, head, labels, weights, base = random_case()
    halves = [x.astype(jnp.bfloat16) for x in (states, head, base.x_BLD, base.head_DV)]
    case = (*halves[:2], labels, weights, Base(*halves[2:], HELD))
    total, _, kl, dx, dhead = found(case)
    exact = oracle(*case)
    assert (dx.dtype, dhead.dtype, total.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(kl, exact[2], rtol=1e-5)
    np.testing.assert_allclose(dhead, exact[4], atol=1e-2 * np.abs(exact[4]).max())


def test_the_logits_of_a_batch_never_exist_at_once():
    """Not a quarter of those of one model, in a gradient that compares two."""
    length, vocabulary, chunk = 2048, 4096, 32

    def loss(states, head, base):
        tokens = jnp.zeros((1, length), jnp.int32)
        return held_loss(states, head, tokens, tokens * 1.0, base, chunk=chunk)[0]

    like = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    states, head = like((1, length, 8)), like((8, vocabulary))
    base = Base(states, head, jax.ShapeDtypeStruct((1,), bool))
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(states, head, base).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * length * vocabulary / 4
