"""The `config.json` of a checkpoint of the Hugging Face hub, and the model it describes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from replay_jax.errors import UserError
from replay_jax.hub.families import FAMILIES, FULL, SLIDING, Family, is_rotated
from replay_jax.hub.numbers import positive, positive_whole
from replay_jax.hub.ropes import hub_of_ropes, ropes_of_hub
from replay_jax.model.architecture import ModelConfig, Variant

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
# What older files leave out, as transformers reads them.
_LEFT_OUT: dict[str, Any] = {
    "tie_word_embeddings": False,
    "initializer_range": 0.02,
    "num_key_value_heads": None,
    "head_dim": None,
    "rope_theta": 10_000.0,
}
_FRACTIONS = ("rms_norm_eps", "initializer_range")
# What would change what a model computes, and the only values that can be loaded, of any family.
_ELSEWHERE: dict[str, tuple[Any, ...]] = {
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "attention_dropout": (None, 0.0),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "partial_rotary_factor": (None, 1.0),
    "rope_interleaved": (None, False),
    "use_bidirectional_attention": (None, False),
    "quantization_config": (None,),
}
_MOST_LAYERS = 10_000  # each is described by itself, and a file may say anything
# How a model is computed and trained, and the longest sequence, are not a checkpoint's to say.
_OURS = ("max_seq_len", "init_scale", "initialization", "compute_dtype", "matmul_precision",
         "layer_loop", "remat", "attention", "loss_chunk", "lora", "frozen")  # fmt: skip


def model_of_hub(config: Mapping[str, Any], *, name: str) -> ModelConfig:
    """The model that a `config.json` describes, to be computed as `ModelConfig` does by default.

    Args:
        config: the parsed file; both spellings of the rotary settings are read (`rope_theta` with
            `rope_scaling`, and `rope_parameters` of transformers 5).
        name: of the checkpoint, for messages.

    Raises:
        UserError: it is of no family that is known, says what this decoder does not do, or lacks a
            size; names the setting.
    """
    family = family_of_hub(config, name)
    found = {**_LEFT_OUT, **family.fixed, **family.left_out, **config}
    _check_values(found, family, name)
    if found["num_key_value_heads"] is None:
        found["num_key_value_heads"] = found.get("num_attention_heads")
    missing = [key for key in _SIZES.values() if found.get(key) is None]
    if missing:
        raise UserError(f"{name} has no {missing[0]} in its config.json")
    for key in _SIZES.values():
        if key in _FRACTIONS:
            positive(found[key], f"{name} has {key}")
        elif key == "tie_word_embeddings":
            _truth(found, key, name)
        else:
            positive_whole(found[key], f"{name} has {key}")
    if found["num_hidden_layers"] > _MOST_LAYERS:
        raise UserError(
            f"{name} has num_hidden_layers {found['num_hidden_layers']}, and at most "
            f"{_MOST_LAYERS} can be loaded"
        )
    rope, local = ropes_of_hub(found, family, name)
    unrotated = _unrotated_layers(found, family, name)
    windowed = _windowed_layers(found, family, name)
    sizes = {ours: found[theirs] for ours, theirs in _SIZES.items()}
    try:
        variant = Variant(
            **family.variant,
            head_dim=_head_dim(found, name),
            query_scalar=_query_scalar(found, family, name),
            window=found["sliding_window"] if windowed else 0,
            windowed_layers=windowed,
            unrotated_layers=unrotated,
            local_rope=local if windowed and local != rope else None,
        )
        return ModelConfig(**sizes, rope=rope, variant=variant)
    except UserError as error:
        if name in str(error):
            raise
        raise UserError(f"{name} describes a model that cannot be: {error}") from error


def family_of_hub(config: Mapping[str, Any], name: str) -> Family:
    """The family of a `config.json`; raises UserError for one that is not known."""
    found = config.get("model_type")
    if not isinstance(found, str) or found not in FAMILIES:
        raise UserError(
            f"{name} has model_type {found!r}, and only {', '.join(map(repr, FAMILIES))} can be "
            "loaded"
        )
    return FAMILIES[found]


def family_of_model(model: ModelConfig) -> Family:
    """The first family in which a model can be written down; raises UserError if there is none."""
    for family in FAMILIES.values():
        try:
            theirs = model_of_hub(hub_of_model(model, family), name=family.model_type)
            check_same_model(model, theirs, name=family.model_type)
        except UserError:
            continue
        return family
    raise UserError(
        f"no model of {', '.join(family.title for family in FAMILIES.values())} computes "
        f"model.variant {model.variant}, so it cannot be exported"
    )


def hub_of_model(model: ModelConfig, family: Family) -> dict[str, Any]:
    """The `config.json` of a model of a family, tokens that mark texts and dtype left to add.

    What the family does not do is lost: read it again to know.
    """
    block = model.block
    layers = range(model.num_layers)
    found = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        **family.fixed,
        **{theirs: getattr(model, ours) for ours, theirs in _SIZES.items()},
        "head_dim": model.head_dim,
        **hub_of_ropes(model.rope, block.local_rope or model.rope, family),
    }
    if family.windows != "none":
        found["sliding_window"] = block.window or None
    if family.windows == "switched":
        found["use_sliding_window"] = block.window > 0
    if family.windows in ("typed", "switched"):
        windowed = set(block.windowed_layers)
        found["layer_types"] = [SLIDING if number in windowed else FULL for number in layers]
    if "no_rope_layers" in family.left_out:
        unrotated = set(block.unrotated_layers)
        found["no_rope_layers"] = [int(number not in unrotated) for number in layers]
    if "query_pre_attn_scalar" in family.left_out:
        scalar = block.query_scalar or model.head_dim
        found["query_pre_attn_scalar"] = int(scalar) if scalar == int(scalar) else scalar
    return found


def check_same_model(model: ModelConfig, theirs: ModelConfig, *, name: str) -> None:
    """Raise UserError unless a checkpoint's parameters mean the same in `model`.

    How it is computed may differ, and so may `max_seq_len`, which may be shorter.
    """
    kept = {key: getattr(model, key) for key in _OURS}
    adapted = dataclasses.replace(theirs, **kept)
    for key, want, have in _differences(model, adapted):
        raise UserError(
            f"model.{key} is {want} and {name} has {have}: "
            "take the model from it, with defaults.pretrained_model"
        )
    if model.max_seq_len > theirs.max_seq_len:
        raise UserError(
            f"model.max_seq_len {model.max_seq_len} is longer than the {theirs.max_seq_len} "
            f"positions of {name}: lower it to at most that"
        )


def _differences(one: ModelConfig, other: ModelConfig) -> list[tuple[str, Any, Any]]:
    """Fields that are not equal, those of the variant each by itself."""
    pairs = {
        field.name: (getattr(one, field.name), getattr(other, field.name))
        for field in dataclasses.fields(ModelConfig)
        if field.name != "variant"
    }
    for field in dataclasses.fields(Variant):
        pairs[f"variant.{field.name}"] = (
            getattr(one.block, field.name),
            getattr(other.block, field.name),
        )
    # A zero stands for what follows from the sizes, which may be said as well.
    pairs["variant.head_dim"] = (one.head_dim, other.head_dim)
    pairs["variant.query_scalar"] = (
        one.block.query_scalar or one.head_dim,
        other.block.query_scalar or other.head_dim,
    )
    return [(key, want, have) for key, (want, have) in pairs.items() if want != have]


def _check_values(found: Mapping[str, Any], family: Family, name: str) -> None:
    """Refuse by name what this decoder does in one way only."""
    allowed = {**_ELSEWHERE, **{key: (value,) for key, value in family.fixed.items()}}
    for key, values in allowed.items():
        if found.get(key) not in values:
            raise UserError(
                f"{name} has {key} {found.get(key)!r}, and only {family.title} models with {key} "
                f"{values[-1]!r} can be loaded"
            )


def _truth(found: Mapping[str, Any], key: str, name: str) -> bool:
    value = found[key]
    if not isinstance(value, bool):
        raise UserError(f"{name} has {key} {value!r}, neither true nor false")
    return value


def _head_dim(found: Mapping[str, Any], name: str) -> int:
    """The width of a head, 0 where it follows from the sizes."""
    if found["head_dim"] is None:
        return 0
    width = positive_whole(found["head_dim"], f"{name} has head_dim")
    return 0 if width * found["num_attention_heads"] == found["hidden_size"] else width


def _query_scalar(found: Mapping[str, Any], family: Family, name: str) -> float:
    """What scores are divided by the root of, 0 for the width of a head."""
    if "query_pre_attn_scalar" not in family.left_out:
        return 0.0
    scalar = positive(found["query_pre_attn_scalar"], f"{name} has query_pre_attn_scalar")
    width = found["head_dim"] or found["hidden_size"] // found["num_attention_heads"]
    return 0.0 if scalar == width else scalar


def _windowed_layers(found: Mapping[str, Any], family: Family, name: str) -> tuple[int, ...]:
    """The numbers of the layers with a window; checks the window where there are any."""
    layers = range(found["num_hidden_layers"])
    on = family.windows != "none" and found["sliding_window"] is not None
    if family.windows == "switched":
        on = _truth(found, "use_sliding_window", name) and on
    if family.windows == "all":
        windowed = tuple(layers) if on else ()
    elif found.get("layer_types") is not None:
        windowed = _sliding(found["layer_types"], len(layers), name)
    elif on:
        for key in {"sliding_window_pattern", "max_window_layers"} & set(found):
            positive_whole(found[key], f"{name} has {key}")
        windowed = tuple(number for number in layers if family.is_windowed(found, number))
    else:
        windowed = ()
    if windowed and not on:
        raise UserError(
            f"{name} has layer_types with {SLIDING!r} and no sliding_window that {family.title} "
            "models use"
        )
    if windowed:
        positive_whole(found["sliding_window"], f"{name} has sliding_window")
    return windowed


def _sliding(types: Any, layers: int, name: str) -> tuple[int, ...]:
    """Where `layer_types` says that a layer has a window."""
    known = isinstance(types, list) and all(kind in (FULL, SLIDING) for kind in types)
    if not known or len(types) != layers:
        raise UserError(
            f"{name} has layer_types {str(types)[:60]!r}: {layers} of {FULL!r} and {SLIDING!r} "
            "can be loaded"
        )
    return tuple(number for number, kind in enumerate(types) if kind == SLIDING)


def _unrotated_layers(found: Mapping[str, Any], family: Family, name: str) -> tuple[int, ...]:
    """The numbers of the layers without rotary embedding."""
    if "no_rope_layers" not in family.left_out:
        return ()
    layers = found["num_hidden_layers"]
    listed = found["no_rope_layers"]
    if listed is None:
        positive_whole(found["no_rope_layer_interval"], f"{name} has no_rope_layer_interval")
    elif not isinstance(listed, list) or len(listed) < layers:
        raise UserError(f"{name} has no_rope_layers {listed!r}: a list of {layers} can be loaded")
    return tuple(number for number in range(layers) if not is_rotated(found, number))
