"""Training of a part: gradients of adapters by the chain rule, frozen bits, where it begins."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from tiny_training import MODEL, OPTIMIZER, SHAPE, batch, digest, mesh_of

from replay_jax.model.decoder import build_transformer
from replay_jax.model.lora import MATRICES, LoraConfig
from replay_jax.training.begin import compile_begin
from replay_jax.training.gradient import batch_gradient
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.step import (
    abstract_state,
    begin_state,
    compile_init,
    compile_train_step,
    place_batch,
    place_hyper,
)
from replay_jax.training.trainable import as_stored, joined, merged, split

LORA = LoraConfig(rank=3, alpha=6.0, matrices=MATRICES)
ADAPTED = dataclasses.replace(MODEL, lora=LORA)


@functools.cache
def base():
    """Parameters of the model alone, on this host."""
    return jax.device_get(compile_init(MODEL, mesh_of(1, 1, 1))(0).params)


@functools.cache
def adapted():
    """The same with random adapters, of which neither matrix is zero."""
    random = np.random.default_rng(1)
    adapters, _ = split(abstract_state(ADAPTED, mesh_of(1, 1, 1)).params, ADAPTED)
    drawn = jax.tree.map(lambda x: 0.1 * random.normal(size=x.shape).astype(np.float32), adapters)
    return joined(drawn, base())


def gradient(params, model):
    shape = dataclasses.replace(SHAPE, model=model)
    device = {name: jnp.asarray(array) for name, array in batch(0).items() if name != "row"}
    step = jax.jit(lambda p, b: batch_gradient(p, b, shape=shape, platform="cpu"))
    return step(params, device)


@functools.cache
def adapted_gradient():
    """In the adapters."""
    return gradient(adapted(), ADAPTED)


@functools.cache
def whole_gradient():
    """Of the merged model in all of its parameters."""
    return gradient(merged(adapted(), ADAPTED), MODEL)


def test_gradients_of_adapters_follow_from_those_of_their_matrices():
    """d/dA = scale dW B', d/dB = scale A' dW; the loss is that of the merged model."""
    found, (nats, _) = adapted_gradient()
    whole, (expected, _) = whole_gradient()
    np.testing.assert_allclose(nats, expected, rtol=1e-5)
    assert set(found) == {"layer_0"} and len(found["layer_0"]) == 2 * len(MATRICES)
    for name in MATRICES:
        a, b = (np.asarray(adapted()["layer_0"][f"{name}_lora_{side}"]) for side in "ab")
        a2, b2 = a.reshape(-1, LORA.rank), b.reshape(LORA.rank, -1)
        dw = np.asarray(whole["layer_0"][name]).reshape(len(a2), -1)
        for side, wanted in (("a", 2.0 * dw @ b2.T), ("b", 2.0 * a2.T @ dw)):
            mine = np.asarray(found["layer_0"][f"{name}_lora_{side}"]).reshape(wanted.shape)
            np.testing.assert_allclose(mine, wanted, rtol=1e-3, atol=1e-5)


def test_gradients_beside_a_frozen_vocabulary_are_those_of_the_whole():
    model = dataclasses.replace(MODEL, frozen=("embedding", "head"))
    found, _ = gradient(merged(adapted(), ADAPTED), model)
    whole, _ = whole_gradient()
    assert found.keys() == whole.keys() - {"embedding", "head"}
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves({name: whole[name] for name in found}), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_fresh_adapter_changes_no_bit_although_the_base_is_kept_in_bfloat16():
    """What every product casts to bfloat16 anyway; in float32 a sweep's first losses say so."""
    plain = dataclasses.replace(MODEL, compute_dtype="bfloat16")
    model = dataclasses.replace(ADAPTED, compute_dtype="bfloat16")
    given = jax.tree.map(jnp.asarray, as_stored(base(), model))
    params = compile_begin(model, mesh_of(1, 1, 1))(given, 5).params
    assert params["head"].dtype == "bfloat16"
    assert params["final_norm"]["scale"].dtype == "float32"
    assert np.any(params["layer_0"]["up_lora_a"]) and not np.any(params["layer_0"]["up_lora_b"])

    def hidden(params, model):
        transformer = build_transformer(model, platform="cpu")
        tokens = jnp.asarray(batch(3)["inputs"])
        return jax.jit(lambda p: transformer.apply({"params": p}, tokens))(params)

    one, other = hidden(base(), plain), hidden(params, model)
    assert one.dtype == other.dtype == "bfloat16"
    np.testing.assert_array_equal(np.asarray(one, np.float32), np.asarray(other, np.float32))


def test_a_step_on_a_split_model_trains_adapters_alone():
    """Over fsdp and tensor: the gradient is the whole one, frozen bits stay, moments are few."""
    mesh, (expected, _) = mesh_of(1, 2, 2), adapted_gradient()
    step = compile_train_step(dataclasses.replace(SHAPE, model=ADAPTED), mesh)
    state = jax.tree.map(
        lambda leaf, like: jax.device_put(np.asarray(leaf), like.sharding),
        begin_state(adapted(), ADAPTED), abstract_state(ADAPTED, mesh),
    )  # fmt: skip
    hyper = place_hyper(hyperparameters(OPTIMIZER, 1e-2), mesh)
    state, metrics = step(state, place_batch(batch(0), mesh), hyper)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(expected)))
    np.testing.assert_allclose(metrics.gradient_norm, norm, rtol=1e-4)
    trained, frozen = split(jax.device_get(state.params), ADAPTED)
    before, _ = split(adapted(), ADAPTED)
    assert digest(frozen) == digest(base())
    assert all(
        np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, trained)), strict=True)
    )
    moments = [leaf.shape for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    assert sorted(moments) == sorted(2 * [leaf.shape for leaf in jax.tree.leaves(trained)])
