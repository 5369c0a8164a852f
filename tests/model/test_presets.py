"""Sizes: the paper's models to the parameter, and clear refusals of sizes that do not fit."""

import dataclasses

import pytest

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig, RopeConfig, parameter_counts
from replay_jax.model.presets import PRESETS, preset, shape_model

# arXiv 2603.04964: body and total in millions, as far as they are given; embedding and head
# together are twice 128,256 x width (once where tied).
PAPER = {
    "150m": (22.81, 154.15, 2 * 65_667_072),
    "300m": (102.65, 299.65, 2 * 98_500_608),
    "600m": (339.79, 602.46, 2 * 131_334_144),
    "1_4b": (906.0, 1431.4, 2 * 262_668_288),
    "1_9b": (1359.1, 1884.4, 2 * 262_668_288),
    "3b": (2818.7, 3212.7, 394_002_432),
    "8b": (6979.6, 8030.3, 2 * 525_336_576),
}
EXACT_BODY = {
    "150m": 22_813_184,
    "300m": 102_648_576,
    "600m": 339_788_800,
    "1_4b": 906_037_248,
    "1_9b": 1_359_054_848,
    "3b": 2_818_747_392,
    "8b": 6_979_588_096,
}


@pytest.mark.parametrize("name", PAPER)
def test_paper_sizes(name: str) -> None:
    body, total, vocabulary = PAPER[name]
    counts = parameter_counts(preset(name))
    assert counts.body == EXACT_BODY[name]
    assert counts.body / 1e6 == pytest.approx(body, abs=0.05)
    assert counts.total / 1e6 == pytest.approx(total, abs=0.05)
    assert counts.embedding + counts.head == vocabulary
    assert (counts.head == 0) == preset(name).tied_embeddings


def test_paper_settings() -> None:
    for name in ("150m", "300m", "600m", "1_4b", "1_9b"):
        assert preset(name).max_seq_len == 4096
        assert preset(name).rope == RopeConfig(theta=10_000.0)
    assert preset("8b").rope == RopeConfig(500_000.0, "llama3", 8.0, 1.0, 4.0, 8192)
    assert preset("3b").rope.factor == 32.0
    assert all(PRESETS[name].norm_epsilon == 1e-5 for name in PAPER)


def test_shape() -> None:
    model = shape_model("256,896,8,4,2,8192")
    assert (model.embed_dim, model.mlp_dim, model.num_layers) == (256, 896, 8)
    assert (model.num_heads, model.num_kv_heads, model.vocab_size) == (4, 2, 8192)
    assert model.compute_dtype == "float32" and not model.tied_embeddings


@pytest.mark.parametrize("shape", ["256,896,8,4,4", "256,896,8,4,4,big", "1,2,3,4,5,6,7", ""])
def test_bad_shape(shape: str) -> None:
    with pytest.raises(UserError, match="six integers"):
        shape_model(shape)


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="nearest is '150m'"):
        preset("150")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_heads": 3}, "even multiple of model.num_heads 3; 60 would"),
        ({"num_kv_heads": 3}, "multiple of model.num_kv_heads 3; 2 would"),
        ({"num_kv_heads": 2**64}, "multiple of model.num_kv_heads 18446744073709551616; 4 would"),
        ({"num_layers": 0}, "at least 1"),
        ({"vocab_size": -1}, "at least 1"),
        ({"loss_chunk": -1}, "0 or more"),
        ({"attention": "flash"}, "one of auto"),
        ({"remat": "half"}, "one of none"),
        ({"layer_loop": "while"}, "one of unroll"),
        ({"compute_dtype": "float16"}, "one of float32"),
    ],
)
def test_sizes_that_do_not_fit(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        dataclasses.replace(preset("tiny"), **changes)


def test_rope_settings_that_do_not_fit() -> None:
    with pytest.raises(UserError, match="rope.scaling"):
        RopeConfig(scaling="longrope")
    with pytest.raises(UserError, match="must be above"):
        RopeConfig(scaling="llama3", low_freq_factor=4.0, high_freq_factor=4.0)


def test_counts_split() -> None:
    counts = parameter_counts(ModelConfig(10, 8, 6, 3, 2, 1, 16))
    # Per layer: q and out 8 x 8, k and v 8 x 4, three 8 x 6, two norms; one final norm.
    assert counts.body == 3 * (2 * 64 + 2 * 32 + 3 * 48 + 16) + 8
    assert (counts.embedding, counts.head, counts.total) == (80, 80, counts.body + 160)
