"""The `config.json` of a Llama checkpoint of the Hugging Face hub, and the model it describes."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig, RopeConfig

# What this decoder does in one way only: any other value means another architecture.
_FIXED = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
}
_SIZES = {
    "vocab_size": "vocab_size",
    "embed_dim": "hidden_size",
    "mlp_dim": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "max_seq_len": "max_position_embeddings",
    "tied_embeddings": "tie_word_embeddings",
    "norm_epsilon": "rms_norm_eps",
    "init_scale": "initializer_range",
}
# What the files of the first Llama models leave out, as transformers reads them.
_LEFT_OUT: dict[str, Any] = {
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
    "num_key_value_heads": None,
    "head_dim": None,
    "rope_theta": 10_000.0,
}
_FRACTIONS = ("rms_norm_eps", "initializer_range")
_STRETCH = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
# How a model is computed, and the longest sequence it takes, are not a checkpoint's to say.
_OURS = ("max_seq_len", "init_scale", "initialization", "compute_dtype", "matmul_precision",
         "layer_loop", "remat", "attention", "loss_chunk")  # fmt: skip


def model_of_hub(config: Mapping[str, Any], *, name: str) -> ModelConfig:
    """The model that a `config.json` describes, to be computed as `ModelConfig` does by default.

    Args:
        config: the parsed file; both spellings of the rotary settings are read (`rope_theta` with
            `rope_scaling`, and `rope_parameters` of transformers 5).
        name: of the checkpoint, for messages.

    Raises:
        UserError: it describes something else than this decoder, or lacks a size.
    """
    found = {**_LEFT_OUT, **config}
    if found["num_key_value_heads"] is None:
        found["num_key_value_heads"] = found.get("num_attention_heads")
    for key, value in _FIXED.items():
        if found.get(key) != value:
            raise UserError(
                f"{name} has {key} {found.get(key)!r}, and only Llama decoders with {key} "
                f"{value!r} can be loaded"
            )
    missing = [key for key in _SIZES.values() if found.get(key) is None]
    if missing:
        raise UserError(f"{name} has no {missing[0]} in its config.json")
    if not isinstance(found["tie_word_embeddings"], bool):
        raise UserError(
            f"{name} has tie_word_embeddings {found['tie_word_embeddings']!r}, neither true nor "
            "false"
        )
    for key in _SIZES.values():
        if key in _FRACTIONS:
            _positive(found[key], f"{name} has {key}")
        elif key != "tie_word_embeddings":
            _positive_whole(found[key], f"{name} has {key}")
    model = ModelConfig(
        **{ours: found[theirs] for ours, theirs in _SIZES.items()}, rope=_rope(found, name)
    )
    if found["head_dim"] not in (None, model.head_dim):
        raise UserError(
            f"{name} has heads of width {found['head_dim']}, and only hidden_size / "
            f"num_attention_heads = {model.head_dim} can be loaded"
        )
    return model


def hub_of_model(model: ModelConfig, *, bos_id: int | None, eos_id: int) -> dict[str, Any]:
    """The `config.json` of a model whose parameters are exported, `torch_dtype` left to add."""
    rope = model.rope
    scaling = None
    if rope.scaling == "llama3":
        scaling = {
            "rope_type": "llama3",
            "factor": rope.factor,
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_length,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        **_FIXED,
        **{theirs: getattr(model, ours) for ours, theirs in _SIZES.items()},
        "head_dim": model.head_dim,
        "rope_theta": rope.theta,
        "rope_scaling": scaling,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
    }


def check_same_model(model: ModelConfig, theirs: ModelConfig, *, name: str) -> None:
    """Raise UserError unless a checkpoint's parameters mean the same in `model`.

    How it is computed may differ, and so may `max_seq_len`, which may be shorter.
    """
    kept = {key: getattr(model, key) for key in _OURS}
    adapted = dataclasses.replace(theirs, **kept)
    for field in dataclasses.fields(ModelConfig):
        want, have = getattr(model, field.name), getattr(adapted, field.name)
        if want != have:
            raise UserError(
                f"model.{field.name} is {want} and {name} has {have}: "
                "take the model from it, with defaults.pretrained_model"
            )
    if model.max_seq_len > theirs.max_seq_len:
        raise UserError(
            f"model.max_seq_len {model.max_seq_len} is longer than the {theirs.max_seq_len} "
            f"positions of {name}: lower it to at most that"
        )


def _rope(config: Mapping[str, Any], name: str) -> RopeConfig:
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise UserError(
            f"{name} describes its rotary embedding as {given!r}: a JSON object with its rope_type "
            "and numbers can be loaded"
        )
    theta = given["rope_theta"] if "rope_theta" in given else config["rope_theta"]
    theta = _positive(theta, f"{name} has rope_theta")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return RopeConfig(theta=theta)
    if kind != "llama3":
        raise UserError(
            f"{name} stretches its rotary embedding by {kind!r}, and only 'default' and 'llama3' "
            "can be loaded"
        )
    lacking = [key for key in _STRETCH if key not in given]
    if lacking:
        raise UserError(f"{name} has a llama3 rotary embedding without {lacking[0]}")
    stretch = {key: _positive(given[key], f"{name} has {key}") for key in _STRETCH}
    return RopeConfig(
        theta=theta,
        scaling="llama3",
        factor=stretch["factor"],
        low_freq_factor=stretch["low_freq_factor"],
        high_freq_factor=stretch["high_freq_factor"],
        original_length=int(stretch["original_max_position_embeddings"]),
    )


def _positive(value: Any, words: str) -> float:
    """A finite number above 0; raises UserError that begins with the words otherwise."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Not `value <= 0`: Python reads NaN from JSON, which is neither.
    # No more than a float holds: JSON has integers of any size.
    if not is_number or not 0 < value <= sys.float_info.max:
        raise UserError(f"{words} {value!r} in its config.json, which is no positive number")
    return float(value)


def _positive_whole(value: Any, words: str) -> None:
    """Raise UserError that begins with the words unless a value is an integer of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{words} {value!r} in its config.json, which is no positive whole number")
