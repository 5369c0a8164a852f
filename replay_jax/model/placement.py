"""Which mesh axes split what, for the few kernels that must be told (they run in shard_map)."""

from dataclasses import dataclass

from jax.sharding import Mesh


@dataclass(frozen=True)
class Placement:
    """Mesh axes by role; None stands for "not split".

    `batch_axes` split the rows of a batch, `heads_axis` the attention heads, `vocab_axis` the
    vocabulary of the head matrix and `embed_axis` its other side (FSDP).
    """

    mesh: Mesh
    batch_axes: tuple[str, ...]
    heads_axis: str | None = None
    vocab_axis: str | None = None
    embed_axis: str | None = None
