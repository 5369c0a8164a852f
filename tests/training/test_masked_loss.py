"""The loss where not all labels count, against float64; and documents that share a row."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_training import LENGTH, MODEL, ROWS, SHAPE, batch

from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.training.gradient import batch_gradient, hidden_states
from replay_jax.training.step import init_state

# An answer of one label, one of all but the first, none, and everything (replayed text).
COUNTED = np.array([[0, 0, 0, 0, 0, 0, 1, 0], [0] + [1] * 7, [0] * 8, [1] * 8], np.float32)


@pytest.fixture(scope="module")
def params():
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: init_state(MODEL, 0)).params
    return jax.tree.map(lambda like: random.normal(0, 0.2, like.shape).astype(like.dtype), shapes)


@pytest.fixture(scope="module")
def states_of(params):
    """Hidden states [B, L, D] of inputs and segments."""
    transformer = build_transformer(MODEL, platform="cpu")

    def states(inputs, segments):
        return hidden_states(transformer, params, {"inputs": inputs, "segments": segments})

    return jax.jit(states)


def test_the_loss_is_the_mean_of_what_counts_in_float64(params, states_of):
    host = batch(3)
    host["loss_weights"] = np.tile(COUNTED, (ROWS // 4, 1))
    arrays = {name: host[name] for name in ("inputs", "labels", "loss_weights", "source")}
    # Microbatches have rows a, a + 4, ...: the third of four has no label that counts.
    shape = dataclasses.replace(SHAPE, accumulation=4)
    step = jax.jit(lambda p, b: batch_gradient(p, b, shape=shape, platform="cpu"))
    found, (nats, weights) = step(params, arrays)
    loss, head = oracle(params, host, states_of)
    assert weights.sum() == COUNTED.sum() * ROWS / 4
    np.testing.assert_allclose(nats.sum() / weights.sum(), loss, rtol=2e-6)
    np.testing.assert_allclose(head_kernel(found), head, atol=2e-7)
    assert np.abs(head).max() > 0.01


def oracle(params, host, states_of):
    """Mean nats of the labels that count, and its gradient in the head, all in float64."""
    states = states_of(host["inputs"], np.ones((ROWS, LENGTH), np.int32))
    x = np.asarray(states, np.float64).reshape(ROWS * LENGTH, -1)
    logits, labels = x @ np.asarray(head_kernel(params), np.float64), host["labels"].reshape(-1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    weights = host["loss_weights"].reshape(-1).astype(np.float64)
    nats = -np.log(shares[np.arange(len(labels)), labels])
    shares[np.arange(len(labels)), labels] -= 1
    loss = (weights * nats).sum() / weights.sum()
    return loss, x.T @ (shares * (weights / weights.sum())[:, None])


def test_a_document_that_shares_a_row_is_as_if_its_positions_began_anew(states_of):
    """Rotary positions are relative, so within a segment only distances are seen."""
    inputs, whole = batch(5)["inputs"], np.ones((ROWS, LENGTH), np.int32)
    segments = np.repeat([[1, 1, 1, 2, 2, 2, 2, 3]], ROWS, axis=0).astype(np.int32)
    packed = np.asarray(states_of(inputs, segments))[:, 3:7]
    alone = np.asarray(states_of(np.roll(inputs, -3, axis=1), whole))[:, :4]
    np.testing.assert_allclose(packed, alone, atol=4e-6)
    mixed = np.asarray(states_of(inputs, whole))[:, 3:7]
    assert np.abs(mixed - alone).max() > 0.1
