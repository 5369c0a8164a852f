"""Which mesh axes split what, for the few kernels that must be told (they run in shard_map)."""

from dataclasses import dataclass, replace

import jax
from jax.sharding import AbstractMesh, Mesh


@dataclass(frozen=True)
class Placement:
    """Mesh axes by role; None stands for "not split".

    `batch_axes` split the rows of a batch, `heads_axis` the attention heads, `vocab_axis` the
    vocabulary of the head matrix and `embed_axis` its other side (FSDP).
    """

    mesh: Mesh | AbstractMesh
    batch_axes: tuple[str, ...]
    heads_axis: str | None = None
    vocab_axis: str | None = None
    embed_axis: str | None = None

    def within(self, axes: tuple[str, ...]) -> "Placement":
        """The same as seen inside a shard_map over `axes`, which split nothing any more."""
        rest = tuple(axis for axis in self.batch_axes if axis not in axes)
        return replace(self, mesh=jax.sharding.get_abstract_mesh(), batch_axes=rest)
