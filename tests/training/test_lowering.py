"""Every preset and shipped config lowers for GPU and TPU: shapes only, nothing is compiled."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn
from places import ROOT
from tiny_training import MODEL, mesh_of

from replay_jax.config.experiment import resolve
from replay_jax.config.recipe import load_recipe
from replay_jax.errors import UserError
from replay_jax.model.architecture import RopeConfig
from replay_jax.model.attention import make_attention
from replay_jax.model.presets import PRESETS, preset
from replay_jax.training.config import StepShape
from replay_jax.training.optimizer import HYPER_NAMES
from replay_jax.training.population import abstract_arguments, population_step
from replay_jax.training.step import abstract_batch, abstract_state, train_step

CONFIGS = sorted((ROOT / "configs").rglob("*.py"))


def shape_of(model, **changes):
    wanted = {
        "batch_size": 2,
        "seq_len": min(4096, model.max_seq_len),
        "sources": 2,
        "document_mask": True,
    }
    return StepShape(model, **(wanted | changes))


def shapes():
    """What the presets and the shipped configs train, with two rows instead of their batches.

    Layers are alike, and a matrix product lowers at any width: two scanned layers of few heads,
    each as wide as it is and shared by as many. In float32, which cuDNN does not take, that width
    and the length are nothing to a GPU. How a model begins and turns is no more than numbers.
    """
    found = {name: shape_of(model) for name, model in PRESETS.items()}
    for path in CONFIGS:
        config = resolve(load_recipe(str(path), {}).base)
        training = config.training
        found[path.stem] = shape_of(
            config.model, seq_len=training.seq_len, document_mask=training.document_mask
        )
    distinct = {}
    for name, shape in found.items():
        for platform in ("cuda", "tpu"):
            distinct.setdefault((narrowed(shape, platform), platform), name)
    return [(name, platform, shape) for (shape, platform), name in distinct.items()]


def narrowed(shape, platform):
    """The shape with two layers and two heads of keys, and no wider or longer than that needs."""
    model = shape.model
    group = model.num_heads // model.num_kv_heads
    no_kernel = platform == "cuda" and model.compute_dtype == "float32"
    width = 16 if no_kernel else model.embed_dim // model.num_heads
    length = 64 if no_kernel else shape.seq_len
    model = dataclasses.replace(
        model,
        vocab_size=512,
        max_seq_len=length,
        rope=RopeConfig(),
        initialization="normal",
        embed_dim=width * 2 * group,
        mlp_dim=512,
        num_layers=2,
        num_heads=2 * group,
        num_kv_heads=2,
        layer_loop="scan",
    )
    return dataclasses.replace(shape, model=model, seq_len=length)


@pytest.fixture(autouse=True)
def with_cudnn(monkeypatch):
    """Tracing asks for cuDNN's version, which a machine without a GPU has not."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)


def lowered(shape, platform):
    mesh = mesh_of(1, 1, 1)
    state, batch = abstract_state(shape.model, mesh), abstract_batch(shape, mesh)
    hyper = dict.fromkeys(HYPER_NAMES, jax.ShapeDtypeStruct((), jnp.float32))

    def step(state, batch, hyper):
        return train_step(state, batch, hyper, shape=shape, platform=platform)

    traced = jax.jit(step).trace(*jax.tree.map(_bare, (state, batch, hyper)))
    return traced.lower(lowering_platforms=(platform,)).as_text()


def _bare(leaf):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


@pytest.mark.parametrize(("name", "platform", "shape"), shapes(), ids=lambda value: str(value)[:20])
def test_it_lowers(name, platform, shape):
    text = lowered(shape, platform)
    kernel = "__cudnn$fmha" if platform == "cuda" else "tpu_custom_call"
    half = shape.model.compute_dtype == "bfloat16"
    assert (kernel in text) == (half or platform == "tpu"), name


@pytest.mark.parametrize(
    ("remat", "masked", "forward"),
    [("none", True, 2), ("matmuls", False, 2), ("matmuls", True, 2), ("full", False, 4)],
)
def test_attention_runs_forward_once_where_its_outputs_are_kept(remat, masked, forward):
    """Two layers, unrolled: a forward and a backward pass of each, and what remat adds."""
    model = dataclasses.replace(preset("150m"), num_layers=2, remat=remat)
    text = lowered(shape_of(model, seq_len=256, document_mask=masked), "cuda")
    calls = re.findall(r"@__cudnn\$fmha\w*", text)
    backward = [call for call in calls if call.endswith("Backward")]
    assert (len(calls) - len(backward), len(backward)) == (forward, 2)


@pytest.mark.parametrize(
    ("dtype", "width", "length", "masked"),
    [("bfloat16", 16, 33, True), ("bfloat16", 256, 32, False), ("bfloat16", 4, 32, False),
     ("float32", 16, 32, True)],
)  # fmt: skip
def test_what_cudnn_does_not_take_falls_back(dtype, width, length, masked):
    """Attention alone, with its gradients; of a whole step `test_it_lowers` says so of float32."""
    queries, keys = (jax.ShapeDtypeStruct((2, length, heads, width), dtype) for heads in (4, 2))
    segments = jax.ShapeDtypeStruct((2, length), jnp.int32) if masked else None

    def text_of(kind):
        attend = make_attention(kind, platform="cuda")

        def step(queries, keys, values, segments):
            out, pull = jax.vjp(lambda *qkv: attend(*qkv, segments), queries, keys, values)
            return pull(out)

        traced = jax.jit(step).trace(queries, keys, keys, segments)
        return traced.lower(lowering_platforms=("cuda",)).as_text()

    assert "__cudnn" not in text_of("auto")
    with pytest.raises(
        UserError, match=f"takes no {dtype} heads of {width} in sequences of {length} with"
    ):
        text_of("cudnn")


def test_a_population_lowers():
    """In float32; test_population.py looks for the kernels that bfloat16 has."""
    shape = shape_of(MODEL, seq_len=32)
    mesh = mesh_of(1, 1, 1)
    lanes = jax.sharding.Mesh(mesh.devices.reshape(1), ("population",))
    arguments = jax.tree.map(_bare, abstract_arguments(shape, 2, lanes, mesh))
    traced = jax.jit(population_step(shape, lanes, platform="cuda")).trace(*arguments)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmha" not in text
