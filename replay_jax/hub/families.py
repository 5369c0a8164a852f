"""The families of open weights that can be loaded: what each is called and does.

A family is one entry of `FAMILIES`: what its `config.json` must say and leaves out, and the
`Variant` of the decoder that it is. The values are those of transformers 5.24, by model type.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_SILU = {"hidden_act": "silu"}
_UNBIASED = {"attention_bias": False}
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Family:
    """A model type of the hub.

    Attributes:
        title: its name for people.
        model_type: in `config.json`.
        architecture: the class of transformers.
        fixed: what its `config.json` says in one way only here, and where it says nothing.
        left_out: what transformers reads where a `config.json` leaves it out.
        variant: fields of `architecture.Variant` that all its models have.
        windows: whether `sliding_window` holds for no layer ("none"), for "all", for the layers
            of `layer_types` ("typed"), or for those with `use_sliding_window` ("switched").
        is_windowed: of the settings and a layer's number, where `layer_types` is left out.
        two_ropes: whether layers with a window rotate in their own way.
    """

    title: str
    model_type: str
    architecture: str
    fixed: Mapping[str, Any]
    left_out: Mapping[str, Any]
    variant: Mapping[str, Any]
    windows: str = "none"
    is_windowed: Callable[[Mapping[str, Any], int], bool] = lambda found, number: True
    two_ropes: bool = False


def is_rotated(found: Mapping[str, Any], number: int) -> bool:
    """Whether a layer has a rotary embedding (SmolLM3 gives it to three of four)."""
    listed = found["no_rope_layers"]
    if listed is None:
        return bool((number + 1) % found["no_rope_layer_interval"])
    return bool(listed[number])


_LLAMA = Family(
    "Llama 2, Llama 3, SmolLM2", "llama", "LlamaForCausalLM",
    fixed={**_SILU, **_UNBIASED, "mlp_bias": False}, left_out={}, variant={},
)  # fmt: skip
_MISTRAL = Family(
    "Mistral", "mistral", "MistralForCausalLM",
    fixed=_SILU, left_out={"sliding_window": 4096}, variant={}, windows="all",
)  # fmt: skip
_QWEN_WINDOWS = {
    "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28,
}  # fmt: skip
_QWEN2 = Family(
    "Qwen2, Qwen2.5", "qwen2", "Qwen2ForCausalLM",
    fixed=_SILU, left_out=_QWEN_WINDOWS, variant={"qkv_bias": True}, windows="switched",
    is_windowed=lambda found, number: number >= found["max_window_layers"],
)  # fmt: skip
_QWEN3 = Family(
    "Qwen3", "qwen3", "Qwen3ForCausalLM",
    fixed={**_SILU, **_UNBIASED}, left_out={**_QWEN_WINDOWS, "head_dim": 128},
    variant={"qk_norm": "head"}, windows="switched", is_windowed=_QWEN2.is_windowed,
)  # fmt: skip
_SMOLLM3 = Family(
    "SmolLM3", "smollm3", "SmolLM3ForCausalLM",
    fixed={**_SILU, **_UNBIASED, "mlp_bias": False},
    left_out={
        "use_sliding_window": False, "sliding_window": None, "tie_word_embeddings": True,
        "no_rope_layers": None, "no_rope_layer_interval": 4, "rope_theta": 2_000_000.0,
    },
    variant={}, windows="switched", is_windowed=lambda found, number: not is_rotated(found, number),
)  # fmt: skip
_OLMO_BLOCK = {"norms": "post", "qk_norm": "projection"}
_OLMO2 = Family(
    "OLMo 2", "olmo2", "Olmo2ForCausalLM",
    fixed={**_SILU, **_UNBIASED}, left_out={}, variant=_OLMO_BLOCK,
)  # fmt: skip
_OLMO3 = Family(
    "OLMo 3", "olmo3", "Olmo3ForCausalLM",
    fixed={**_SILU, **_UNBIASED}, left_out={"sliding_window": 4096, "rope_theta": 500_000.0},
    variant=_OLMO_BLOCK, windows="typed", is_windowed=lambda found, number: bool((number + 1) % 4),
    two_ropes=True,
)  # fmt: skip
_GEMMA3 = Family(
    "Gemma 3 (text)", "gemma3_text", "Gemma3ForCausalLM",
    fixed={"hidden_activation": "gelu_pytorch_tanh", **_UNBIASED},
    left_out={
        "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 4096,
        "sliding_window_pattern": 6, "tie_word_embeddings": True, "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
    },
    variant={
        "qk_norm": "head", "norms": "both", "centred_norms": True, "scaled_embedding": True,
        "activation": "gelu_tanh",
    },
    windows="typed", two_ropes=True,
    is_windowed=lambda found, number: bool((number + 1) % found["sliding_window_pattern"]),
)  # fmt: skip
# A model made here is exported as the first that computes it.
FAMILIES = {
    family.model_type: family
    for family in (_LLAMA, _MISTRAL, _QWEN2, _QWEN3, _SMOLLM3, _OLMO2, _OLMO3, _GEMMA3)
}
