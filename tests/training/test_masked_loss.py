"""The loss where not all labels count, against float64; and documents that share a row."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_training import LENGTH, MODEL, ROWS, SHAPE, batch, one_device

from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.training.gradient import batch_gradient, hidden_states

# An answer of one label, one of all but the first, none, and everything (replayed text).
COUNTED = np.array(
    [[0, 0, 0, 0, 0, 0, 1, 0], [0, 1, 1, 1, 1, 1, 1, 1], [0] * 8, [1] * 8], np.float32
)


def masked(seed: int) -> dict[str, np.ndarray]:
    """Of every four rows one of each kind."""
    host = batch(seed)
    host["loss_weights"] = np.tile(COUNTED, (ROWS // 4, 1))
    return host


def gradients(params, host):
    arrays = {name: host[name] for name in ("inputs", "labels", "loss_weights", "source")}
    shape = dataclasses.replace(SHAPE, accumulation=4)
    return jax.jit(lambda p, b: batch_gradient(p, b, shape=shape, platform="cpu"))(params, arrays)


@pytest.fixture(scope="module")
def params():
    _, init, _ = one_device()
    return init(0).params


def oracle(params, host):
    """Mean nats of the labels that count, and its gradient in the head, all in float64."""
    transformer = build_transformer(MODEL, platform="cpu")
    x = np.asarray(hidden_states(transformer, params, host), np.float64).reshape(ROWS * LENGTH, -1)
    head = np.asarray(head_kernel(params), np.float64)
    logits, labels = x @ head, host["labels"].reshape(-1)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    weights = host["loss_weights"].reshape(-1).astype(np.float64)
    nats = -np.log(shares[np.arange(len(labels)), labels])
    shares[np.arange(len(labels)), labels] -= 1
    loss = (weights * nats).sum() / weights.sum()
    return loss, x.T @ (shares * (weights / weights.sum())[:, None])


def test_the_loss_is_the_mean_of_what_counts_in_float64(params):
    host = masked(3)
    # Microbatches have rows a, a + 4, ...: the third of four has no label that counts.
    found, (nats, weights) = gradients(params, host)
    loss, head = oracle(params, host)
    assert weights.sum() == COUNTED.sum() * ROWS / 4
    np.testing.assert_allclose(nats.sum() / weights.sum(), loss, rtol=2e-6)
    np.testing.assert_allclose(head_kernel(found), head, atol=2e-7)


def test_a_document_that_shares_a_row_is_as_if_its_positions_began_anew(params):
    """Rotary positions are relative, so within a segment only distances are seen."""
    transformer = build_transformer(MODEL, platform="cpu")
    host = batch(5)
    inputs = host["inputs"]
    segments = np.repeat([[1, 1, 1, 2, 2, 2, 2, 3]], ROWS, axis=0).astype(np.int32)
    packed = hidden_states(transformer, params, {"inputs": inputs, "segments": segments})
    alone = hidden_states(transformer, params, {"inputs": inputs[:, 3:7]})
    np.testing.assert_allclose(packed[:, 3:7], alone, atol=2e-6)
    mixed = hidden_states(transformer, params, {"inputs": inputs})
    assert np.abs(np.asarray(mixed[:, 3:7] - alone)).max() > 1e-2
