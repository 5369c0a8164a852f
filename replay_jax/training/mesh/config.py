"""How many ways the devices split the work, as a configuration says it. Free of JAX."""

from dataclasses import dataclass

from replay_jax.errors import UserError

# Share of a GPU's memory that JAX may take; by itself it leaves a quarter unused.
GPU_MEMORY_SHARE = 0.92


@dataclass(frozen=True)
class MeshConfig:
    """How many ways the devices split the work, per mesh axis.

    0 for `replica` or `fsdp` means "the devices that are left"; 0 for both lets
    `mesh.choice.choose_mesh` decide, with its reason.

    Attributes:
        replica: ways to split the rows of a batch; 0: as devices are left.
        fsdp: ways to split rows, and parameters and optimizer state with them; 0: as above.
        tensor: ways to split heads, hidden width and vocabulary.
    """

    replica: int = 0
    fsdp: int = 0
    tensor: int = 1

    def __post_init__(self) -> None:
        if self.replica < 0 or self.fsdp < 0:
            raise UserError(
                f"mesh.replica {self.replica} and mesh.fsdp {self.fsdp} must be 0 (choose) or more."
            )
        if self.tensor < 1:
            raise UserError(f"mesh.tensor is {self.tensor}; it must be at least 1.")


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` that is nearest to `wanted` (the smaller one of two as near)."""
    divisors = (d for d in range(1, number + 1) if number % d == 0)
    return min(divisors, key=lambda d: (abs(d - wanted), d))
