"""Training FLOPs per token by formula, the numerator of every utilisation that is reported."""

from dataclasses import dataclass, replace

from replay_jax.model.architecture import ModelConfig
from replay_jax.model.trained import adapter_parameters, head_is_trained


@dataclass(frozen=True)
class FlopsPerToken:
    """Floating point operations per token for one training step (forward and backward)."""

    body: float
    attention: float
    head: float

    @property
    def total(self) -> float:
        """Body, attention and head together."""
        return self.body + self.attention + self.head


def forward_flops_per_token(config: ModelConfig, seq_len: int, *, causal_half: bool) -> float:
    """Model FLOPs of a forward pass alone on one token, of the model without adapters.

    A third of training all parameters on it.
    """
    whole = replace(config, lora=None, frozen=())
    return flops_per_token(whole, seq_len, causal_half=causal_half).total / 3


def flops_per_token(config: ModelConfig, seq_len: int, *, causal_half: bool) -> FlopsPerToken:
    """Count the model FLOPs of training on one token in a sequence of `seq_len` tokens.

    Two per multiply-add, and the backward pass costs twice the forward (PaLM, arXiv 2204.02311,
    appendix B). `body` holds the weight matrices of the layers, `attention` the two products
    over the sequence, halved with `causal_half` as only one half of the square is needed. Of a
    layer with a window W only a band counts: W keys for each query, or with `causal_half`
    W (1 - W / (2 seq_len)), as the first queries see fewer.
    Embedding look-ups, norms and the optimizer count as nothing; recomputation counts nothing.
    What is frozen has no gradient of its own, the half of its backward pass; adapters have.
    """
    projections = config.embed_dim * config.head_dim * 2 * (config.num_heads + config.num_kv_heads)
    mlp = 3 * config.embed_dim * config.mlp_dim
    half = 0.5 if causal_half else 1.0
    window, windowed = min(config.block.window, seq_len), len(config.block.windowed_layers)
    keys = (config.num_layers - windowed) * seq_len * half
    keys += windowed * window * (1.0 - window / seq_len * (1.0 - half))
    of_matrices = 6.0 if config.lora is None else 4.0
    of_adapters = 6.0 * adapter_parameters(config)
    return FlopsPerToken(
        body=of_matrices * config.num_layers * (projections + mlp) + of_adapters,
        attention=6.0 * 2 * config.num_heads * config.head_dim * keys,
        head=(6.0 if head_is_trained(config) else 4.0) * config.embed_dim * config.vocab_size,
    )
