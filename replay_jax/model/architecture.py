"""What a decoder is made of: the frozen configuration and its exact parameter counts."""

from dataclasses import dataclass

from replay_jax.errors import UserError

COMPUTE_DTYPES = ("float32", "bfloat16")
LAYER_LOOPS = ("unroll", "scan")
REMAT_POLICIES = ("none", "matmuls", "full")
INITIALIZATIONS = ("normal", "fan_in")
MATMUL_PRECISIONS = ("default", "highest")
ROPE_SCALINGS = ("none", "llama3")
ATTENTION_KINDS = ("auto", "reference", "blockwise", "splash", "cudnn", "cudnn_lanes")


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}.")


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding: Llama-2 style, or stretched as in Llama 3.1.

    With scaling "llama3" the wavelengths beyond `original_length / low_freq_factor` are divided
    by `factor`, those below `original_length / high_freq_factor` are kept, and those between are
    blended (Llama 3.1 model card). With "none" only `theta` is read.
    """

    theta: float = 10_000.0
    scaling: str = "none"
    factor: float = 8.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192

    def __post_init__(self) -> None:
        _choice("rope.scaling", self.scaling, ROPE_SCALINGS)
        if self.scaling == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise UserError(
                f"rope.high_freq_factor {self.high_freq_factor} must be above "
                f"rope.low_freq_factor {self.low_freq_factor}."
            )


@dataclass(frozen=True)
class ModelConfig:
    """A Llama-3-style decoder. Sizes are counts; parameters are always float32.

    `initialization` "normal" draws every matrix and the embedding from a normal distribution of
    deviation `init_scale`; "fan_in" so draws the embedding alone, and matrices from one of
    deviation 1 / sqrt(inputs) that is cut off at three of them (haliax 1.x `Linear.init`, with
    which arXiv 2603.04964 trained). `matmul_precision` is that of float32 products: "highest" is
    float32 on every platform, "default" lets a GPU round operands to TF32 and a TPU to bfloat16;
    products of a bfloat16 model are not touched by it.

    `layer_loop` "scan" compiles one layer once, "unroll" compiles every layer. `remat` says what
    the backward pass recomputes: "none" nothing, "matmuls" all but matrix products and attention
    outputs, "full" whole layers. `attention` "auto" is chosen by platform
    (`attention.resolve_attention`). `loss_chunk` is the number of positions of each sequence
    whose logits exist at once; 0 chooses it by size (`loss.chunk_positions`). Raises UserError
    for sizes that do not fit together.
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

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "embed_dim",
            "mlp_dim",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "max_seq_len",
        ):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.embed_dim % (2 * self.num_heads):
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
        if self.loss_chunk < 0:
            raise UserError(f"model.loss_chunk is {self.loss_chunk}; it must be 0 or more.")
        _choice("model.initialization", self.initialization, INITIALIZATIONS)
        _choice("model.matmul_precision", self.matmul_precision, MATMUL_PRECISIONS)
        _choice("model.compute_dtype", self.compute_dtype, COMPUTE_DTYPES)
        _choice("model.layer_loop", self.layer_loop, LAYER_LOOPS)
        _choice("model.remat", self.remat, REMAT_POLICIES)
        _choice("model.attention", self.attention, ATTENTION_KINDS)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.embed_dim // self.num_heads

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
        """All parameters that are trained."""
        return self.body + self.embedding + self.head


def parameter_counts(config: ModelConfig) -> ParameterCounts:
    """Count the parameters of a model without building it."""
    attention = (
        config.embed_dim * config.head_dim * (2 * config.num_heads + 2 * config.num_kv_heads)
    )
    mlp = 3 * config.embed_dim * config.mlp_dim
    norms = 2 * config.embed_dim
    vocabulary = config.vocab_size * config.embed_dim
    return ParameterCounts(
        body=config.num_layers * (attention + mlp + norms) + config.embed_dim,
        embedding=vocabulary,
        head=0 if config.tied_embeddings else vocabulary,
    )
