"""Updates whose generic rows are held to the model that training starts from."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from tiny_texts import params_of
from tiny_training import LENGTH, MODEL, OPTIMIZER, ROWS, SHAPE, batch, mesh_of

from replay_jax.compile.fitting import NOTHING, bytes_of_one, kept_bytes
from replay_jax.model.decoder import build_transformer, head_kernel
from replay_jax.model.lora import LoraConfig
from replay_jax.model.trained import base_bytes
from replay_jax.training.gradient import batch_gradient, hidden_states
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.step import (
    abstract_batch,
    abstract_state,
    begin_state,
    compile_train_step,
    place_batch,
    place_hyper,
)
from replay_jax.training.trainable import as_base, joined, merged, split

HELD = dataclasses.replace(SHAPE, kl_sources=(0,), accumulation=2, document_mask=True)
LORA = LoraConfig(rank=3, alpha=6.0, matrices=("query", "out", "up"))
ADAPTED = dataclasses.replace(MODEL, lora=LORA)


@functools.cache
def base():
    """Parameters of the model that training starts from, on this host."""
    return params_of(MODEL)


@functools.cache
def adapters():
    """Random ones beside it, of which neither matrix is zero."""
    random = np.random.default_rng(1)
    like, _ = split(abstract_state(ADAPTED, mesh_of(1, 1, 1)).params, ADAPTED)
    return jax.tree.map(lambda x: 0.1 * random.normal(size=x.shape).astype(np.float32), like)


@functools.cache
def moved():
    """What training may have made of it, as adapters can say it too."""
    return merged(joined(adapters(), base()), ADAPTED)


@functools.cache
def packed():
    """A batch of rows with several documents, of which not all labels count alike."""
    random = np.random.default_rng(2)
    host = batch(4)
    host["segments"] = np.sort(random.integers(1, 4, (ROWS, LENGTH)).astype(np.int32), axis=1)
    weights = random.choice([0.0, 1.0, 2.0], (ROWS, LENGTH)).astype(np.float32)
    return {**host, "loss_weights": weights}


def generic_alone():
    """The same in which all rows are generic."""
    return {**packed(), "source": np.zeros(ROWS, np.int32)}


def arrays(host):
    return {name: jnp.asarray(array) for name, array in host.items() if name != "row"}


@functools.cache
def step_of(shape):
    def step(params, batch, base):
        return batch_gradient(params, batch, shape=shape, platform="cpu", base=base)

    return jax.jit(step)


@functools.cache
def expected():
    """Gradient, and sums of nats, weights and costs by source, as the definitions say them."""
    device = arrays(packed())
    held, weights = device["source"] == 0, device["loss_weights"]
    transformer = build_transformer(MODEL, platform="cpu")

    def logs(params):
        return jax.nn.log_softmax(hidden_states(transformer, params, device) @ head_kernel(params))

    def loss(params):
        own, other = logs(params), jax.lax.stop_gradient(logs(base()))
        nats = -jnp.take_along_axis(own, device["labels"][..., None], axis=-1)[..., 0]
        kl = jnp.sum(jnp.exp(other) * (other - own), axis=-1)
        costs = (nats, jnp.ones_like(nats), jnp.where(held[:, None], kl, nats))
        by_row = [jnp.sum(weights * cost, axis=1) for cost in costs]
        sums = [jnp.stack([jnp.sum(row * held), jnp.sum(row * ~held)]) for row in by_row]
        return jnp.sum(sums[2]) / jnp.sum(sums[1]), sums

    return jax.device_get(jax.jit(jax.grad(loss, has_aux=True))(moved()))


def assert_close(found, wanted, rtol=2e-4, atol=2e-6):
    for mine, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=atol)


def test_with_adapters_the_frozen_parameters_are_the_base():
    """No others are given; gradients follow from those of the whole matrices by the chain rule."""
    step = step_of(dataclasses.replace(HELD, model=ADAPTED))
    found, sums = step(joined(adapters(), base()), arrays(packed()), None)
    whole, wanted = expected()
    assert_close(sums, wanted)
    assert sums[2][0] > 0.01 and sums[2][1] == sums[0][1]
    assert found.keys() == {"layer_0"} and len(found["layer_0"]) == 2 * len(LORA.matrices)
    for name in LORA.matrices:
        a = adapters()["layer_0"][f"{name}_lora_a"].reshape(-1, LORA.rank)
        of_matrix = whole["layer_0"][name].reshape(len(a), -1)
        mine = np.asarray(found["layer_0"][f"{name}_lora_b"]).reshape(LORA.rank, -1)
        np.testing.assert_allclose(mine, LORA.scale * a.T @ of_matrix, rtol=1e-3, atol=1e-5)


def test_a_fresh_adapter_costs_what_the_base_costs_which_is_nothing():
    step = step_of(dataclasses.replace(HELD, model=ADAPTED))
    fresh = {name: 0.0 * x if "_lora_b" in name else x for name, x in adapters()["layer_0"].items()}
    found, (nats, _, minimised) = step(
        joined({"layer_0": fresh}, base()), arrays(generic_alone()), None
    )
    assert minimised[0] == 0 and nats[0] > 100
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(found)) < 1e-8


def test_a_step_on_eight_devices_is_that_of_the_definitions():
    """Summed over replicas once; the base is split as the parameters are, and not consumed."""
    mesh = mesh_of(4, 2, 1)
    step, like = compile_train_step(HELD, mesh), abstract_state(MODEL, mesh)
    # What `compile` reports of the step counts the base: all arguments that are not the batch.
    kept = kept_bytes(HELD, mesh, NOTHING)
    rest = step.memory_analysis().argument_size_in_bytes - kept.state - kept.base
    assert 0 < rest < 2 * bytes_of_one(abstract_batch(HELD, mesh)) < kept.base

    def placed(tree, like):
        return jax.tree.map(lambda x, to: jax.device_put(np.asarray(x), to.sharding), tree, like)

    reference = placed(base(), as_base(like.params, MODEL))
    hyper = place_hyper(hyperparameters(OPTIMIZER, 1e-2), mesh)

    def metrics_of(params, host):
        state = placed(begin_state(params, MODEL), like)
        return step(state, place_batch(host, mesh), hyper, reference)[1]

    metrics = metrics_of(moved(), packed())
    gradient, sums = expected()
    assert_close((metrics.nats, metrics.weights, metrics.minimised), sums)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics.gradient_norm, norm, rtol=1e-4)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(reference))
    at_base = metrics_of(base(), generic_alone())
    assert at_base.minimised[0] == 0 and at_base.nats[0] > 100
    assert at_base.gradient_norm < 1e-7


def test_the_base_is_kept_as_products_read_it():
    half = dataclasses.replace(MODEL, compute_dtype="bfloat16")
    like = abstract_state(half, mesh_of(1, 2, 1)).params
    kept = as_base(like, half)
    assert kept["head"].dtype == kept["layer_0"]["query"].dtype == jnp.bfloat16
    assert kept["final_norm"]["scale"].dtype == like["head"].dtype == jnp.float32
    assert kept["head"].sharding == like["head"].sharding
    held = dataclasses.replace(HELD, model=half)
    plain = dataclasses.replace(held, kl_sources=())
    adapted = dataclasses.replace(HELD, model=ADAPTED)
    bases = [kept_bytes(x, mesh_of(1, 1, 1), NOTHING).base for x in (held, plain, adapted)]
    assert bases == [base_bytes(half), 0, 0]
