"""A model of one layer and batches by hand, shared by the tests of the training room."""

import functools
import hashlib

import jax
import numpy as np

from replay_jax.model.architecture import ModelConfig
from replay_jax.training.config import OptimizerConfig, StepShape
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.step import (
    abstract_state,
    compile_init,
    compile_train_step,
    place_batch,
    place_hyper,
)

MODEL = ModelConfig(
    vocab_size=64,
    embed_dim=32,
    mlp_dim=64,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    max_seq_len=64,
)
ROWS, LENGTH = 16, 8
SHAPE = StepShape(MODEL, batch_size=ROWS, seq_len=LENGTH, sources=2)
OPTIMIZER = OptimizerConfig()


def mesh_of(replica, fsdp, tensor):
    """A mesh over the first replica x fsdp x tensor fake devices."""
    config = MeshConfig(replica, fsdp, tensor)
    return make_mesh(config, jax.devices()[: replica * fsdp * tensor])


@functools.cache
def one_device():
    """Mesh, initialisation and step on one device, compiled once for all tests of a process."""
    mesh = mesh_of(1, 1, 1)
    return mesh, _init_on_one(), compile_train_step(SHAPE, mesh)


@functools.cache
def _init_on_one():
    return compile_init(MODEL, mesh_of(1, 1, 1))


def begun(mesh, seed=0):
    """The state before the first update on any mesh, for which no program is compiled."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(MODEL, mesh))
    return jax.device_put(_init_on_one()(seed), shardings)


def drawn_parameters(model, mesh, seed=0):
    """Random parameters of any model on any mesh, without the program that draws the model's own.

    That one takes as long to compile as a train step. Norms begin with ones.
    """
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        is_norm = "norm" in jax.tree_util.keystr(path)
        values = np.ones(leaf.shape) if is_norm else random.normal(0, 0.1, leaf.shape)
        return jax.device_put(values.astype(leaf.dtype), leaf.sharding)

    return jax.tree_util.tree_map_with_path(draw, abstract_state(model, mesh).params)


def batch(seed, *, rows=ROWS, length=LENGTH):
    """A host batch of random tokens in which every fourth row is target (source 1)."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, MODEL.vocab_size, (rows, length + 1)).astype(np.int32)
    return {
        "inputs": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "loss_weights": np.ones((rows, length), np.float32),
        "source": (np.arange(rows) % 4 == 3).astype(np.int32),
        "row": seed * 1000 + np.arange(rows),
    }


def run(step, state, mesh, seeds, *, learning_rate=1e-2, optimizer=OPTIMIZER, batch_of=batch):
    """Train on the batches of the seeds; the state, and (loss, gradient norm) of every step."""
    seen = []
    for seed in seeds:
        hyper = place_hyper(hyperparameters(optimizer, learning_rate), mesh)
        state, metrics = step(state, place_batch(batch_of(seed), mesh), hyper)
        loss = float(metrics.nats.sum() / metrics.weights.sum())
        seen.append((loss, float(metrics.gradient_norm)))
    return state, seen


def digest(state):
    """A hash of every bit of a state."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        hashed.update(np.asarray(leaf).tobytes())
    return hashed.hexdigest()
