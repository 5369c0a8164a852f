"""Low-rank adapters as a configuration says them: small matrices beside the large ones of a layer.

LoRA (Hu et al. 2021, arXiv 2106.09685): where a layer multiplies by a matrix W of [inputs,
outputs], it multiplies by W + (alpha / rank) A B instead, of which A [inputs, rank] and B [rank,
outputs] alone are trained. Free of JAX.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from replay_jax.errors import UserError

MATRICES = ("query", "key", "value", "out", "gate", "up", "down")
VOCABULARY = ("embedding", "head")
DOWN, UP = "_lora_a", "_lora_b"


@dataclass(frozen=True)
class LoraConfig:
    """Adapters of every layer. Raises UserError for a rank below 1 or an unknown matrix.

    Attributes:
        rank: width between an adapter's two matrices.
        alpha: what an adapter adds is multiplied by alpha / rank.
        matrices: which matrices of a layer have one, of query, key, value, out, gate, up and down.
    """

    rank: int
    alpha: float
    matrices: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"model.lora.rank is {self.rank}; it must be at least 1.")
        if not 0.0 < self.alpha < float("inf"):
            raise UserError(f"model.lora.alpha is {self.alpha}; it must be positive and finite.")
        unknown = [name for name in self.matrices if name not in MATRICES]
        if unknown or not self.matrices or len(set(self.matrices)) != len(self.matrices):
            raise UserError(
                f"model.lora.matrices are {', '.join(self.matrices) or 'none'}; name some of "
                f"{', '.join(MATRICES)}, each once."
            )

    @property
    def scale(self) -> float:
        """What the product of an adapter's matrices is multiplied by."""
        return self.alpha / self.rank


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name, the last of its path, is an adapter's."""
    return name.endswith((DOWN, UP))


def check_trained(
    lora: LoraConfig | None,
    frozen: tuple[str, ...],
    sizes: Mapping[str, tuple[int, int]],
    tied: bool,
) -> None:
    """Raise UserError for adapters wider than their matrices, or frozen parts that there are not.

    Args:
        lora, frozen: as in the model's configuration.
        sizes: inputs and outputs of the matrices of a layer.
        tied: whether the head is the embedding.
    """
    parts = VOCABULARY[:1] if tied else VOCABULARY
    if len(set(frozen)) != len(frozen) or not set(frozen) <= set(parts):
        raise UserError(
            f"model.frozen is {', '.join(frozen)}; this model can freeze {' and '.join(parts)}."
        )
    if lora is None:
        return
    if frozen:
        raise UserError("model.lora freezes all but its adapters: leave model.frozen empty.")
    for name in lora.matrices:
        if lora.rank > min(sizes[name]):
            raise UserError(
                f"model.lora.rank {lora.rank} is larger than the {name} matrix of "
                f"{sizes[name][0]} x {sizes[name][1]}; use at most {min(sizes[name])}."
            )
