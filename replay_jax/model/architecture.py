"""What a decoder is made of: the frozen configuration and its exact parameter counts."""

import math
from dataclasses import dataclass

from replay_jax.errors import UserError
from replay_jax.model.lora import LoraConfig, check_trained

COMPUTE_DTYPES = ("float32", "bfloat16")
LAYER_LOOPS = ("unroll", "scan")
REMAT_POLICIES = ("none", "matmuls", "full")
INITIALIZATIONS = ("normal", "fan_in")
MATMUL_PRECISIONS = ("default", "highest")
ROPE_SCALINGS = ("none", "llama3", "linear", "yarn")
QK_NORMS = ("none", "head", "projection")
NORM_PLACES = ("pre", "post", "both")
ACTIVATIONS = ("silu", "gelu_tanh")
ATTENTION_KINDS = ("auto", "reference", "blockwise", "splash", "cudnn", "cudnn_lanes")


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding: Llama-2 style, or stretched as in Llama 3.1 and others.

    Attributes:
        theta: wavelengths are 2 pi theta^(2 k / width).
        scaling: "none" reads `theta` alone. "llama3" divides the frequencies of wavelengths beyond
            original_length / low_freq_factor by `factor`, keeps those below original_length /
            high_freq_factor and blends those between (Llama 3.1 model card). "yarn" reads the same
            numbers (the two are its beta_slow and beta_fast), blends by pair number instead, and
            multiplies cosines and sines by 0.1 ln(factor) + 1 (arXiv 2309.00071). "linear" divides
            every frequency by `factor`.
        factor: how many times longer sequences are made.
        low_freq_factor: where long wavelengths begin.
        high_freq_factor: where short ones end.
        original_length: of the sequences before, in tokens.
    """

    theta: float = 10_000.0
    scaling: str = "none"
    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        _choice("rope.scaling", self.scaling, ROPE_SCALINGS)
        bounded = self.scaling in ("llama3", "yarn")
        if bounded and self.high_freq_factor <= self.low_freq_factor:
            raise UserError(
                f"rope.high_freq_factor {self.high_freq_factor} must be above "
                f"rope.low_freq_factor {self.low_freq_factor}."
            )

    @property
    def size(self) -> float:
        """What rotated queries and keys are multiplied by."""
        return 1.0 + 0.1 * math.log(max(self.factor, 1.0)) if self.scaling == "yarn" else 1.0


@dataclass(frozen=True)
class Variant:
    """What a family of open weights does otherwise than Llama; the defaults are Llama's.

    head_dim: width of one attention head; 0 for embed_dim / num_heads.
    qkv_bias: queries, keys and values have biases (Qwen2).
    qk_norm: queries and keys are normed before their rotation, each "head" by one scale (Qwen3,
        Gemma 3), or the whole "projection" (OLMo 2).
    norms: on what goes into attention and MLP ("pre"), on what comes out ("post", OLMo 2), or
        "both" (Gemma).
    centred_norms: a norm multiplies by 1 + its scale, which starts at zero (Gemma).
    scaled_embedding: embeddings are multiplied by sqrt(embed_dim) (Gemma).
    query_scalar: scores are divided by its square root; 0 for the head's width.
    activation: of the MLP's gate.
    window: positions that a layer of `windowed_layers` attends to, its own included; 0 for all.
    windowed_layers: numbers of the layers with a window, from 0, ascending.
    unrotated_layers: numbers of the layers without rotary embedding (SmolLM3).
    local_rope: the rotary embedding of windowed layers; None for that of all others.
    """

    head_dim: int = 0
    qkv_bias: bool = False
    qk_norm: str = "none"
    norms: str = "pre"
    centred_norms: bool = False
    scaled_embedding: bool = False
    query_scalar: float = 0.0
    activation: str = "silu"
    window: int = 0
    windowed_layers: tuple[int, ...] = ()
    unrotated_layers: tuple[int, ...] = ()
    local_rope: RopeConfig | None = None

    def __post_init__(self) -> None:
        _choice("model.variant.qk_norm", self.qk_norm, QK_NORMS)
        _choice("model.variant.norms", self.norms, NORM_PLACES)
        _choice("model.variant.activation", self.activation, ACTIVATIONS)
        for name in ("head_dim", "window", "query_scalar"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UserError(f"model.variant.{name} is {value}; it must be 0 or more.")
        if self.head_dim % 2:
            raise UserError(f"model.variant.head_dim is {self.head_dim}; it must be even.")
        for name in ("windowed_layers", "unrotated_layers"):
            numbers = getattr(self, name)
            if list(numbers) != sorted(set(numbers)):
                raise UserError(f"model.variant.{name} {numbers} must ascend.")
        if bool(self.window) != bool(self.windowed_layers):
            raise UserError(
                f"model.variant.window {self.window} and model.variant.windowed_layers "
                f"{self.windowed_layers} need each other: set both or neither."
            )
        if self.local_rope is not None and not self.windowed_layers:
            raise UserError("model.variant.local_rope is for windowed layers, and there are none.")


_LLAMA = Variant()


@dataclass(frozen=True)
class LayerKind:
    """How a layer attends where layers differ: `window` positions (0: all), rotated or not."""

    window: int
    rope: RopeConfig | None


@dataclass(frozen=True)
class ModelConfig:
    """A Llama-3-style decoder, or a `variant` of it. Sizes are counts; what is trained is float32.

    Raises UserError for sizes that do not fit together.

    Attributes:
        vocab_size: tokens.
        embed_dim: width of the residual stream.
        mlp_dim: hidden width of the MLP.
        num_layers: layers.
        num_heads: query heads.
        num_kv_heads: key and value heads, of which `num_heads` is a multiple.
        max_seq_len: the longest sequence, in tokens.
        tied_embeddings: whether the head is the embedding.
        rope: the rotary position embedding.
        norm_epsilon: added to the mean square in norms.
        init_scale: standard deviation of what is drawn first.
        initialization: "normal" draws every matrix and the embedding with deviation `init_scale`;
            "fan_in" so draws the embedding alone, and matrices with deviation 1 / sqrt(inputs), cut
            off at three of them (haliax 1.x `Linear.init`, with which arXiv 2603.04964 trained).
        compute_dtype: of activations, "float32" or "bfloat16".
        matmul_precision: of float32 products: "highest" is float32 on every platform, "default"
            lets a GPU round operands to TF32 and a TPU to bfloat16; no other model is touched.
        layer_loop: "scan" compiles one layer once, "unroll" every layer.
        remat: what the backward pass recomputes: "none" nothing, "matmuls" all but matrix products
            and attention outputs, "full" whole layers.
        attention: "auto" is chosen by platform (`attention.resolve_attention`).
        loss_chunk: positions of each sequence whose logits exist at once; 0 chooses it by size
            (`loss.chunk_positions`).
        variant: what a family of open weights does otherwise than Llama; None for nothing.
        lora: adapters, which alone are trained, beside the frozen rest; None for none.
        frozen: what is not trained where there are no adapters, of "embedding" and "head".
    """

    vocab_size: int
    embed_dim: int
    mlp_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    max_seq_len: int
    tied_embeddings: bool = False
    rope: RopeConfig = RopeConfig()
    norm_epsilon: float = 1e-5
    init_scale: float = 0.02
    initialization: str = "normal"
    compute_dtype: str = "float32"
    matmul_precision: str = "highest"
    layer_loop: str = "unroll"
    remat: str = "none"
    attention: str = "auto"
    loss_chunk: int = 0
    variant: Variant | None = None
    lora: LoraConfig | None = None
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (
            "vocab_size", "embed_dim", "mlp_dim", "num_layers", "num_heads", "num_kv_heads",
            "max_seq_len",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.variant == _LLAMA:
            object.__setattr__(self, "variant", None)  # one model is described in one way
        if not self.block.head_dim and self.embed_dim % (2 * self.num_heads):
            below = max(1, self.embed_dim // (2 * self.num_heads)) * 2 * self.num_heads
            raise UserError(
                f"model.embed_dim {self.embed_dim} must be an even multiple of model.num_heads "
                f"{self.num_heads}; {below} would be."
            )
        if self.num_heads % self.num_kv_heads:
            most = min(self.num_kv_heads, self.num_heads, 1 << 16)  # nobody waits for more
            near = next(n for n in range(most, 0, -1) if self.num_heads % n == 0)
            raise UserError(
                f"model.num_heads {self.num_heads} must be a multiple of model.num_kv_heads "
                f"{self.num_kv_heads}; {near} would do."
            )
        for name in ("windowed_layers", "unrotated_layers"):
            numbers = getattr(self.block, name)
            if numbers and not 0 <= numbers[0] <= numbers[-1] < self.num_layers:
                raise UserError(
                    f"model.variant.{name} are {', '.join(map(str, numbers))}, and "
                    f"model.num_layers {self.num_layers} has 0 to {self.num_layers - 1}."
                )
        if self.loss_chunk < 0:
            raise UserError(f"model.loss_chunk is {self.loss_chunk}; it must be 0 or more.")
        _choice("model.initialization", self.initialization, INITIALIZATIONS)
        _choice("model.matmul_precision", self.matmul_precision, MATMUL_PRECISIONS)
        _choice("model.compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        _choice("model.layer_loop", self.layer_loop, LAYER_LOOPS)
        _choice("model.remat", self.remat, REMAT_POLICIES)
        _choice("model.attention", self.attention, ATTENTION_KINDS)
        check_trained(self.lora, self.frozen, self.matrix_sizes, self.tied_embeddings)

    @property
    def block(self) -> Variant:
        """What its layers do: the variant, or Llama's way where none is given."""
        return self.variant or _LLAMA

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.block.head_dim or self.embed_dim // self.num_heads

    @property
    def matrix_sizes(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the matrices of a layer."""
        embed, mlp, query = self.embed_dim, self.mlp_dim, self.num_heads * self.head_dim
        key = (embed, self.num_kv_heads * self.head_dim)
        return {
            "query": (embed, query), "key": key, "value": key, "out": (query, embed),
            "gate": (embed, mlp), "up": (embed, mlp), "down": (mlp, embed),
        }  # fmt: skip

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """How each layer attends."""
        block = self.block
        windowed, unrotated = set(block.windowed_layers), set(block.unrotated_layers)

        def kind(number: int) -> LayerKind:
            local = number in windowed
            rope = block.local_rope if local and block.local_rope else self.rope
            return LayerKind(block.window if local else 0, None if number in unrotated else rope)

        return tuple(kind(number) for number in range(self.num_layers))

    @property
    def product_precision(self) -> str:
        """Precision of the products that this model computes, as JAX names it."""
        return self.matmul_precision if self.compute_dtype == "float32" else "default"


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters; a tied head counts once, as embedding."""

    body: int
    embedding: int
    head: int

    @property
    def total(self) -> int:
        """All parameters together."""
        return self.body + self.embedding + self.head


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Count the parameters of a model without building it; adapters are not among them."""
    block, width = config.block, config.head_dim
    query, key = config.num_heads * width, config.num_kv_heads * width
    layer = sum(inputs * outputs for inputs, outputs in config.matrix_sizes.values())
    if block.qkv_bias:
        layer += query + 2 * key
    layer += {"none": 0, "head": 2 * width, "projection": query + key}[block.qk_norm]
    layer += (4 if block.norms == "both" else 2) * config.embed_dim
    vocabulary = config.vocab_size * config.embed_dim
    return ParameterCounts(
        body=config.num_layers * layer + config.embed_dim,
        embedding=vocabulary,
        head=0 if config.tied_embeddings else vocabulary,
    )
