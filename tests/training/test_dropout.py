"""Dropout: how much is dropped, which numbers, that evaluation knows nothing, and where it lies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import MODEL, ROWS, SHAPE, batch, drawn_parameters, mesh_of

from replay_jax.errors import UserError
from replay_jax.model.decoder import build_transformer
from replay_jax.model.layers import dropped
from replay_jax.training.config import TrainingConfig
from replay_jax.training.evaluate import evaluation_shape
from replay_jax.training.gradient import DROPOUT_KEYS, dropout_keys, hidden_states
from replay_jax.training.mesh.sharding import placement
from replay_jax.training.step import abstract_batch, on_mesh, place_batch

RATE = 0.25
SHAPES = {
    loop: dataclasses.replace(
        SHAPE, model=dataclasses.replace(MODEL, num_layers=2, layer_loop=loop), dropout=RATE
    )
    for loop in ("unroll", "scan")
}
KEYS = dropout_keys(7, 3 * ROWS + np.arange(ROWS))


def test_as_much_is_dropped_as_is_asked_and_the_rest_makes_up_for_it():
    x = np.full((4, 64, 128), 3.0, np.float32)
    out = np.asarray(dropped(x, KEYS[:4], RATE))
    assert set(np.unique(out)) == {0.0, 4.0}
    assert abs((out == 0).mean() - RATE) < 0.01
    # Every row, position and feature has its own.
    assert len({row.tobytes() for row in out}) == 4
    assert len({column.tobytes() for column in out[0].T}) == 128
    assert dropped(x, None, RATE) is x
    assert dropped(jnp.ones((1, 2, 2), jnp.bfloat16), KEYS[:1], RATE).dtype == jnp.bfloat16


def test_every_row_of_every_step_of_every_seed_has_a_key_of_its_own():
    keys = [
        tuple(key)
        for seed in (0, 1)
        for step in range(3)
        for key in dropout_keys(seed, 4 * step + np.arange(4)).tolist()
    ]
    assert len(set(keys)) == len(keys)
    # Of a host's rows, those of the whole batch; a step far beyond 2^32 rows is no error.
    whole = dropout_keys(5, 16 + np.arange(8))
    assert np.array_equal(dropout_keys(5, 16 + np.array([2, 3, 6])), whole[[2, 3, 6]])
    assert dropout_keys(2**32 - 1, 2**52 + np.arange(2)).dtype == np.uint32


def states(shape, mesh):
    """Final hidden states [B, L, D] of a batch that is spread over a mesh."""
    params = jax.device_get(drawn_parameters(SHAPES["unroll"].model, mesh_of(1, 1, 1)))
    params = stacked(params) if shape.model.layer_loop == "scan" else params
    transformer = build_transformer(
        shape.model, platform="cpu", placement=placement(mesh), dropout=shape.dropout
    )
    placed = place_batch({**batch(0), DROPOUT_KEYS: KEYS}, mesh)
    with on_mesh(mesh):
        found = jax.jit(lambda params, batch: hidden_states(transformer, params, batch))
        return np.asarray(found(params, placed))


def stacked(tree):
    """Parameters, or what is like them, of unrolled layers as a scan has them."""
    layers = [tree[f"layer_{n}"] for n in range(2)]
    rest = {name: part for name, part in tree.items() if not name.startswith("layer_")}
    return {**rest, "layers": jax.tree.map(lambda *leaves: np.stack(leaves), *layers)}


def test_devices_and_the_loop_over_layers_drop_the_same_numbers():
    """Unrolled on one device, and scanned on eight."""
    wanted = states(SHAPES["unroll"], mesh_of(1, 1, 1))
    found = states(SHAPES["scan"], mesh_of(4, 2, 1))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.abs(wanted).mean() > 0.1


def test_what_measures_has_no_dropout():
    mesh = mesh_of(1, 1, 1)
    measured = evaluation_shape(SHAPES["scan"], mesh, batch_size=8)
    assert measured.dropout == 0.0
    assert DROPOUT_KEYS not in abstract_batch(measured, mesh)
    assert DROPOUT_KEYS in abstract_batch(SHAPES["scan"], mesh)


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UserError, match="training.dropout is"):
        TrainingConfig(8, 16, dropout=rate)
