"""config.json of the hub: the files of the Llama family as published, and what is refused."""

import dataclasses

import pytest

from replay_jax.errors import UserError
from replay_jax.hub.config import (
    check_same_model,
    hub_of_model,
    model_of_hub,
)
from replay_jax.hub.families import FAMILIES
from replay_jax.model.architecture import RopeConfig
from replay_jax.model.presets import preset

# The published settings of three models, in the spellings of their times.
LLAMA_31_8B = {
    "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
    "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "rms_norm_eps": 1e-05,
    "initializer_range": 0.02, "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3",
    },
}  # fmt: skip
LLAMA_32_3B = {
    **LLAMA_31_8B, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
    "num_attention_heads": 24, "head_dim": 128, "tie_word_embeddings": True,
    "rope_scaling": {**LLAMA_31_8B["rope_scaling"], "factor": 32.0},
}  # fmt: skip
LLAMA_1_7B = {
    "model_type": "llama", "hidden_act": "silu", "vocab_size": 32000, "hidden_size": 4096,
    "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-06,
}  # fmt: skip


def same_parameters(one, other):
    """Equal in all that a checkpoint decides."""
    check_same_model(one, dataclasses.replace(other, max_seq_len=one.max_seq_len), name="other")
    return True


def test_published_models_are_the_presets():
    assert same_parameters(preset("8b"), model_of_hub(LLAMA_31_8B, name="it"))
    assert same_parameters(preset("3b"), model_of_hub(LLAMA_32_3B, name="it"))


@pytest.mark.parametrize("left_out", [{}, {"num_key_value_heads": None}])
def test_the_first_llama_leaves_much_out(left_out):
    model = model_of_hub({**LLAMA_1_7B, **left_out}, name="it")
    assert (model.num_kv_heads, model.tied_embeddings) == (32, False)
    assert model.rope == RopeConfig(theta=10_000.0)


def test_both_spellings_of_the_rotary_settings_mean_the_same():
    new = {key: value for key, value in LLAMA_31_8B.items() if not key.startswith("rope")}
    new["rope_parameters"] = {**LLAMA_31_8B["rope_scaling"], "rope_theta": 500000.0}
    assert model_of_hub(new, name="it") == model_of_hub(LLAMA_31_8B, name="it")
    plain = {**new, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    assert model_of_hub(plain, name="it").rope == RopeConfig(theta=5e5)


@pytest.mark.parametrize("name", ["1m", "150m", "3b", "8b"])
def test_an_exported_config_describes_the_same_model(name):
    model = preset(name)
    assert same_parameters(
        model,
        model_of_hub(hub_of_model(model, FAMILIES["llama"]), name="it"),
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, ("model_type 'gpt2'", "'llama'")),
        ({"hidden_act": "gelu"}, ("hidden_act 'gelu'",)),
        ({"attention_bias": True}, ("attention_bias True",)),
        ({"mlp_bias": True}, ("mlp_bias True",)),
        ({"head_dim": 63}, ("head_dim is 63", "even")),
        ({"hidden_size": None}, ("no hidden_size",)),
        ({"hidden_size": "4096"}, ("hidden_size '4096'", "no positive whole number")),
        ({"hidden_size": 4096.0}, ("hidden_size 4096.0", "no positive whole number")),
        ({"num_attention_heads": 0}, ("num_attention_heads 0",)),
        ({"rms_norm_eps": float("nan")}, ("rms_norm_eps nan", "no positive number")),
        ({"rms_norm_eps": 10**400}, ("rms_norm_eps 1000", "no positive number")),
        ({"tie_word_embeddings": "no"}, ("tie_word_embeddings 'no'",)),
        ({"rope_theta": None}, ("rope_theta None", "no positive number")),
        ({"rope_scaling": "linear"}, ("rotary embedding as 'linear'",)),
        (
            {"rope_scaling": {**LLAMA_31_8B["rope_scaling"], "low_freq_factor": None}},
            ("low_freq_factor None",),
        ),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, ("without low_freq_factor",)),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ("'dynamic'",)),
    ],
)
def test_another_architecture_is_one_sentence(change, words):
    with pytest.raises(UserError) as refusal:
        model_of_hub({**LLAMA_31_8B, **change}, name="some/model")
    text = str(refusal.value)
    assert "some/model" in text and all(word in text for word in words), text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_layers": 31}, ("model.num_layers is 31", "32")),
        ({"tied_embeddings": True}, ("model.tied_embeddings is True",)),
        ({"norm_epsilon": 1e-6}, ("model.norm_epsilon",)),
        ({"rope": RopeConfig(theta=500_000.0)}, ("model.rope",)),
        ({"max_seq_len": 131_073}, ("131073", "131072")),
    ],
)
def test_a_model_that_is_not_the_checkpoints_is_one_sentence(change, words):
    theirs = model_of_hub(LLAMA_31_8B, name="it")
    with pytest.raises(UserError) as refusal:
        check_same_model(dataclasses.replace(preset("8b"), **change), theirs, name="some/model")
    assert all(word in str(refusal.value) for word in words), str(refusal.value)


def test_how_a_model_is_computed_is_not_the_checkpoints():
    model = dataclasses.replace(
        preset("8b"), max_seq_len=64, layer_loop="unroll", remat="none", compute_dtype="float32",
        loss_chunk=8,
    )  # fmt: skip
    check_same_model(model, model_of_hub(LLAMA_31_8B, name="it"), name="it")
