"""The families of open weights: published settings read, refusals by name, folders there and back.

What they compute is compared with transformers in test_family_peers.py.
"""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_training import mesh_of

from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.errors import UserError
from replay_jax.hub.config import check_same_model, family_of_model, hub_of_model, model_of_hub
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.families import FAMILIES
from replay_jax.hub.folder import find_pretrained, pretrained_config
from replay_jax.hub.weights import load_params
from replay_jax.model.architecture import ModelConfig, RopeConfig, Variant
from replay_jax.model.presets import preset
from replay_jax.training.step import abstract_state

# Settings as published (config.json on the hub), in the spelling of their time, less what says
# nothing about the model.
COMMON = {"initializer_range": 0.02, "tie_word_embeddings": False, "attention_dropout": 0.0}
PUBLISHED = {
    "Mistral-7B-v0.1": {
        **COMMON, "model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 32000,
    },
    "Qwen2.5-0.5B": {
        **COMMON, "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896,
        "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
    },
    "Qwen3-0.6B": {
        **COMMON, "model_type": "qwen3", "attention_bias": False, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 1024, "intermediate_size": 3072,
        "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16,
        "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
        "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936,
    },
    "SmolLM3-3B": {
        "model_type": "smollm3", "attention_bias": False, "attention_dropout": 0.0,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 11008, "layer_types": ["full_attention"] * 36,
        "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": False,
        "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9,
        "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 5000000.0,
        "sliding_window": None, "use_sliding_window": False, "vocab_size": 128256,
    },
    "OLMo-2-1124-7B": {
        **COMMON, "model_type": "olmo2", "attention_bias": False, "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 500000, "vocab_size": 100352,
    },
    "Olmo-3-7B": {
        **COMMON, "model_type": "olmo3", "attention_bias": False, "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 65536,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
        "rms_norm_eps": 1e-06, "rope_theta": 500000, "sliding_window": 4096, "vocab_size": 100278,
        "rope_scaling": {
            "attention_factor": 1.2079441541679836, "beta_fast": 32.0, "beta_slow": 1.0,
            "factor": 8.0, "original_max_position_embeddings": 8192, "rope_type": "yarn",
        },
    },
    "gemma-3-1b": {
        "model_type": "gemma3_text", "attention_bias": False, "attention_dropout": 0.0,
        "attn_logit_softcapping": None, "final_logit_softcapping": None, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "initializer_range": 0.02,
        "intermediate_size": 6912, "max_position_embeddings": 32768, "num_attention_heads": 4,
        "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": None,
        "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6,
        "vocab_size": 262144,
    },
}  # fmt: skip
LINEAR = {"factor": 8.0, "rope_type": "linear"}


def read(name, **changes):
    return model_of_hub({**PUBLISHED[name], **changes}, name="some/model")


def test_published_settings_are_read():
    mistral = read("Mistral-7B-v0.1")
    assert mistral.block == Variant(window=4096, windowed_layers=tuple(range(32)))
    assert read("Mistral-7B-v0.1", sliding_window=None).variant is None
    assert read("Qwen2.5-0.5B").block == Variant(qkv_bias=True)
    some = read("Qwen2.5-0.5B", use_sliding_window=True, max_window_layers=22)
    assert (some.block.window, some.block.windowed_layers) == (32768, (22, 23))
    qwen3 = read("Qwen3-0.6B")
    assert (qwen3.block, qwen3.head_dim) == (Variant(head_dim=128, qk_norm="head"), 128)
    smollm3 = read("SmolLM3-3B")
    assert smollm3.block == Variant(unrotated_layers=tuple(range(3, 36, 4)))
    assert smollm3.tied_embeddings
    olmo = Variant(qk_norm="projection", norms="post")
    assert read("OLMo-2-1124-7B").block == olmo


def test_layers_that_rotate_in_two_ways_are_read():
    olmo3 = read("Olmo-3-7B")
    windowed = tuple(number for number in range(32) if number % 4 != 3)
    assert (olmo3.block.window, olmo3.block.windowed_layers) == (4096, windowed)
    assert olmo3.rope == RopeConfig(5e5, "yarn", 8.0, 1.0, 32.0, 8192)
    assert olmo3.block.local_rope == RopeConfig(5e5)
    gemma = read("gemma-3-1b")
    assert gemma.block == Variant(
        head_dim=256, qk_norm="head", norms="both", centred_norms=True, scaled_embedding=True,
        activation="gelu_tanh", window=512, local_rope=RopeConfig(1e4),
        windowed_layers=tuple(number for number in range(26) if number % 6 != 5),
    )  # fmt: skip
    assert gemma.rope == RopeConfig(1e6) and gemma.tied_embeddings
    large = read("gemma-3-1b", rope_scaling=LINEAR, query_pre_attn_scalar=168)
    assert large.rope == RopeConfig(1e6, "linear", 8.0)
    assert (large.block.query_scalar, large.block.local_rope) == (168.0, RopeConfig(1e4))


def test_the_new_spelling_of_two_rotary_embeddings_means_the_same():
    old = {**PUBLISHED["gemma-3-1b"], "rope_scaling": LINEAR}
    new = {key: value for key, value in old.items() if not key.startswith("rope")}
    del new["sliding_window_pattern"]
    new["layer_types"] = [
        "full_attention" if number % 6 == 5 else "sliding_attention" for number in range(26)
    ]
    new["rope_parameters"] = {
        "full_attention": {**LINEAR, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert model_of_hub(new, name="new") == model_of_hub(old, name="old")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_family_is_written_down_as_it_was_read(name):
    model, kind = read(name), PUBLISHED[name]["model_type"]
    written = hub_of_model(model, FAMILIES[kind])
    assert model_of_hub(json.loads(json.dumps(written)), name="again") == model
    assert family_of_model(model) is FAMILIES[kind]


def test_a_width_that_follows_from_the_sizes_may_be_said():
    said = preset("tiny")
    variant = Variant(qk_norm="head", head_dim=said.head_dim, query_scalar=float(said.head_dim))
    said = dataclasses.replace(said, variant=variant)
    assert family_of_model(said) is FAMILIES["qwen3"]
    wider = dataclasses.replace(said, variant=dataclasses.replace(variant, head_dim=32))
    with pytest.raises(UserError, match="model.variant.head_dim is 16 and it has 32"):
        check_same_model(said, wider, name="it")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("Qwen3-0.6B", {"model_type": "qwen3_moe"}, ("model_type 'qwen3_moe'", "'qwen3'")),
        ("Qwen3-0.6B", {"model_type": ["qwen3"]}, ("model_type ['qwen3']",)),
        ("Qwen3-0.6B", {"attention_bias": True}, ("attention_bias True", "Qwen3")),
        ("Qwen3-0.6B", {"attention_dropout": 0.1}, ("attention_dropout 0.1",)),
        ("Qwen3-0.6B", {"use_sliding_window": 1}, ("use_sliding_window 1",)),
        ("Qwen3-0.6B", {"quantization_config": {"bits": 4}}, ("quantization_config {'bits': 4}",)),
        ("Qwen3-0.6B", {"partial_rotary_factor": 0.5}, ("partial_rotary_factor 0.5",)),
        ("Qwen3-0.6B", {"layer_types": ["sliding_attention"] * 28}, ("no sliding_window",)),
        ("gemma-3-1b", {"hidden_activation": "gelu"}, ("hidden_activation 'gelu'",)),
        ("gemma-3-1b", {"final_logit_softcapping": 30.0}, ("final_logit_softcapping 30.0",)),
        ("gemma-3-1b", {"use_bidirectional_attention": True}, ("use_bidirectional_attention",)),
        ("gemma-3-1b", {"sliding_window": "512"}, ("sliding_window '512'",)),
        ("gemma-3-1b", {"sliding_window_pattern": 0}, ("sliding_window_pattern 0",)),
        ("gemma-3-1b", {"query_pre_attn_scalar": 0}, ("query_pre_attn_scalar 0",)),
        ("gemma-3-1b", {"layer_types": ["full_attention"]}, ("layer_types", "26 of")),
        ("gemma-3-1b", {"layer_types": ["chunked_attention"] * 26}, ("layer_types",)),
        ("gemma-3-1b", {"layer_types": [["full_attention"]] * 26}, ("layer_types",)),
        ("gemma-3-1b", {"num_hidden_layers": 10**12}, ("num_hidden_layers 1000000000000",)),
        ("gemma-3-1b", {"rope_scaling": {"rope_type": "linear"}}, ("linear", "without factor")),
        ("gemma-3-1b", {"rope_scaling": {"rope_type": ["linear"]}}, ("by ['linear']",)),
        ("gemma-3-1b", {"rope_parameters": {"full_attention": 5}}, ("rotary embedding as 5",)),
        ("SmolLM3-3B", {"no_rope_layers": [1, 0]}, ("no_rope_layers [1, 0]", "list of 36")),
        ("SmolLM3-3B", {"no_rope_layers": None, "no_rope_layer_interval": 0},
         ("no_rope_layer_interval 0",)),
        ("SmolLM3-3B", {"no_rope_layers": [1], "use_sliding_window": True, "sliding_window": 9,
         "layer_types": None}, ("no_rope_layers [1]",)),
        ("OLMo-2-1124-7B", {"clip_qkv": 8.0}, ("clip_qkv 8.0",)),
        ("Olmo-3-7B", {"rope_scaling": {"rope_type": "yarn", "factor": 8.0, "mscale": 1.0,
         "original_max_position_embeddings": 8192}}, ("mscale 1.0",)),
        ("Olmo-3-7B", {"rope_scaling": {"rope_type": "yarn", "factor": 8.0,
         "attention_factor": 1.0, "original_max_position_embeddings": 8192}},
         ("attention_factor 1.0", "1.2079")),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused_by_name(name, change, words):
    with pytest.raises(UserError) as refusal:
        read(name, **change)
    text = str(refusal.value)
    assert "some/model" in text and all(word in text for word in words), text


def test_another_variant_is_named_by_its_field():
    model = read("gemma-3-1b")
    other = dataclasses.replace(model, variant=dataclasses.replace(model.block, window=511))
    with pytest.raises(UserError, match="model.variant.window is 511 and it has 512"):
        check_same_model(other, model, name="it")
    with pytest.raises(UserError, match="no model of Llama 2.* computes"):
        family_of_model(dataclasses.replace(model, variant=Variant(norms="both")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 4}, "need each other"),
        ({"window": 4, "windowed_layers": (1, 0)}, "must ascend"),
        ({"window": 4, "windowed_layers": (0, 3)}, "has 0 to 2"),
        ({"unrotated_layers": (-1,)}, "has 0 to 2"),
        ({"local_rope": RopeConfig()}, "for windowed layers"),
        ({"norms": "sandwich"}, "variant.norms is 'sandwich'"),
        ({"head_dim": 3}, "must be even"),
        ({"query_scalar": -1.0}, "0 or more"),
    ],
)
def test_variants_that_cannot_be_are_one_sentence(changes, words):
    with pytest.raises(UserError, match=words):
        ModelConfig(8, 8, 8, 3, 2, 1, 16, variant=Variant(**changes))


# The names of a layer's tensors and their shapes, by hand from the modules of transformers, for
# hidden_size 12, intermediate_size 6, two heads of width 4 and one for keys and values.
LLAMA_NAMES = {
    "self_attn.q_proj.weight": (8, 12), "self_attn.k_proj.weight": (4, 12),
    "self_attn.v_proj.weight": (4, 12), "self_attn.o_proj.weight": (12, 8),
    "mlp.gate_proj.weight": (6, 12), "mlp.up_proj.weight": (6, 12),
    "mlp.down_proj.weight": (12, 6), "post_attention_layernorm.weight": (12,),
}  # fmt: skip
PRE = {"input_layernorm.weight": (12,)}
BY_HEAD = {"self_attn.q_norm.weight": (4,), "self_attn.k_norm.weight": (4,)}
AFTER = {"post_feedforward_layernorm.weight": (12,)}
NAMES = {
    "Mistral-7B-v0.1": PRE,
    "Qwen2.5-0.5B": {
        **PRE, "self_attn.q_proj.bias": (8,), "self_attn.k_proj.bias": (4,),
        "self_attn.v_proj.bias": (4,),
    },
    "Qwen3-0.6B": {**PRE, **BY_HEAD},
    "SmolLM3-3B": PRE,
    "OLMo-2-1124-7B": {**AFTER, "self_attn.q_norm.weight": (8,), "self_attn.k_norm.weight": (4,)},
    "Olmo-3-7B": {**AFTER, "self_attn.q_norm.weight": (8,), "self_attn.k_norm.weight": (4,)},
    "gemma-3-1b": {**PRE, **BY_HEAD, **AFTER, "pre_feedforward_layernorm.weight": (12,)},
}  # fmt: skip


def small_folder(folder, name):
    """A folder of random tensors under the names that transformers gives them."""
    config = {
        **PUBLISHED[name], "hidden_size": 12, "intermediate_size": 6, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 4, "num_hidden_layers": 2, "vocab_size": 16,
        "layer_types": None, "no_rope_layers": None,
    }  # fmt: skip
    random = np.random.default_rng(0)
    tied = config.get("tie_word_embeddings", FAMILIES[config["model_type"]].left_out.get(
        "tie_word_embeddings", False))  # fmt: skip
    shapes = {"model.embed_tokens.weight": (16, 12), "model.norm.weight": (12,)}
    shapes |= {} if tied else {"lm_head.weight": (16, 12)}
    for number in range(2):
        for tensor, shape in {**LLAMA_NAMES, **NAMES[name]}.items():
            shapes[f"model.layers.{number}.{tensor}"] = shape
    tensors = {key: random.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return tensors


@pytest.mark.parametrize("name", NAMES)
def test_tensors_come_back_bit_for_bit(tmp_path, name):
    """Into parameters, one family's stacked, and out again under the family's own names."""
    tensors = small_folder(tmp_path / "from", name)
    family = FAMILIES[PUBLISHED[name]["model_type"]]
    model = pretrained_config(str(tmp_path / "from"), download=False)
    if model.block.norms == "both":
        model = dataclasses.replace(model, layer_loop="scan")
    like = abstract_state(model, mesh_of(1, 2, 1)).params
    found = find_pretrained(str(tmp_path / "from"), str(tmp_path), download=False)
    params = load_params(found, like, model)
    back = tmp_path / "back"
    write_model_folder(
        back,
        params,
        model,
        byte_tokenizer(),
        dtype="float32",
        facts={},
        origin=tmp_path / "from",
    )
    after = load_file(back / "model.safetensors")
    assert after.keys() == tensors.keys()
    assert all(after[key].tobytes() == tensors[key].tobytes() for key in tensors)
    written = json.loads((back / "config.json").read_text())
    assert written["architectures"] == [family.architecture]
    check_same_model(model, model_of_hub(written, name="back"), name="back")
