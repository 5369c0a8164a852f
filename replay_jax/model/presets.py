"""Named model sizes: those of the paper, and small ones for a CPU."""

import dataclasses
import difflib

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig, RopeConfig

LLAMA3_VOCABULARY = 128_256


def _paper(embed: int, mlp: int, layers: int, heads: int, kv_heads: int) -> ModelConfig:
    """A model of the paper (arXiv 2603.04964): untied, sequences of 4096, bf16, its first draw."""
    return ModelConfig(
        vocab_size=LLAMA3_VOCABULARY,
        embed_dim=embed,
        mlp_dim=mlp,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        max_seq_len=4096,
        initialization="fan_in",
        compute_dtype="bfloat16",
    )


def _small(embed: int, mlp: int, layers: int, heads: int) -> ModelConfig:
    """A model that trains in minutes on two CPU cores: tied, small vocabulary, float32."""
    return ModelConfig(
        vocab_size=2048,
        embed_dim=embed,
        mlp_dim=mlp,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=heads,
        max_seq_len=1024,
        tied_embeddings=True,
    )


def _llama3(embed: int, mlp: int, layers: int, heads: int, *, factor: float) -> ModelConfig:
    """A released Llama 3 model: stretched rotary embedding, long sequences."""
    return dataclasses.replace(
        _paper(embed, mlp, layers, heads, 8),
        rope=RopeConfig(theta=500_000.0, scaling="llama3", factor=factor),
        max_seq_len=131_072,
        layer_loop="scan",
        remat="full",
    )


def scanned(config: ModelConfig) -> ModelConfig:
    """Layers compiled once and only matrix products kept: deep models need both to fit."""
    return dataclasses.replace(config, layer_loop="scan", remat="matmuls")


PRESETS: dict[str, ModelConfig] = {
    "tiny": _small(64, 176, 2, 4),
    "1m": _small(128, 344, 4, 4),
    "4m": _small(256, 688, 5, 4),
    "10m": _small(384, 1024, 6, 6),
    "150m": _paper(512, 1792, 6, 8, 8),
    "300m": _paper(768, 2688, 12, 12, 12),
    "600m": scanned(_paper(1024, 3584, 24, 16, 8)),
    "1_4b": scanned(_paper(2048, 7168, 16, 16, 8)),
    "1_9b": scanned(_paper(2048, 7168, 24, 16, 8)),
    "3b": dataclasses.replace(_llama3(3072, 8192, 28, 24, factor=32.0), tied_embeddings=True),
    "8b": _llama3(4096, 14336, 32, 32, factor=8.0),
}


def preset(name: str) -> ModelConfig:
    """Return the model of that name. Raises UserError with the nearest name if there is none."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.0)[0]
        raise UserError(
            f"No model preset {name!r}; the nearest is {near!r} (of {', '.join(PRESETS)})."
        )
    return PRESETS[name]


def shape_model(shape: str) -> ModelConfig:
    """Build an untied float32 model from "D,F,L,H,KV,VOCAB", for example "256,896,8,4,4,8192".

    The numbers are embed_dim, mlp_dim, num_layers, num_heads, num_kv_heads and vocab_size.
    Raises UserError if they are not six integers.
    """
    parts = shape.split(",")
    if len(parts) != 6 or not all(part.strip().isdecimal() for part in parts):
        raise UserError(
            f"A shape is six integers D,F,L,H,KV,VOCAB such as 256,896,8,4,4,8192; got {shape!r}."
        )
    embed, mlp, layers, heads, kv_heads, vocabulary = (int(part) for part in parts)
    return ModelConfig(
        vocab_size=vocabulary,
        embed_dim=embed,
        mlp_dim=mlp,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        max_seq_len=8192,
    )
