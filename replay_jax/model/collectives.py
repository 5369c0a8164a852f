"""What the loss exchanges between devices, written out so that it happens once a step.

Every device loops over its own positions, and the head's gradient is summed over the mesh at the
end: left to XLA it would be summed once a chunk, which is why the loop runs in shard_map.

Shape letters: D embed, V vocabulary.
"""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from replay_jax.model.placement import Placement


class Collectives:
    """What the loss exchanges under a placement; without one everything is local."""

    def __init__(self, placement: Placement | None) -> None:
        self.placement = placement
        self.batch_axes = placement.batch_axes if placement else ()
        self.vocab_axis = placement.vocab_axis if placement else None
        self.embed_axis = placement.embed_axis if placement else None
        self.rows = PartitionSpec(self.batch_axes, None)
        self.hidden = PartitionSpec(self.batch_axes, None, None)
        self.head = PartitionSpec(None, self.vocab_axis)
        self.dhead = PartitionSpec(self.embed_axis, self.vocab_axis)

    def run(self, function, in_specs, out_specs):  # type: ignore[no-untyped-def]
        """Run on each device's own part."""
        if self.placement is None:
            return function
        return jax.shard_map(
            function, mesh=self.placement.mesh, in_specs=in_specs, out_specs=out_specs
        )

    def zeros_like_head(self, head_DV: jax.Array) -> jax.Array:
        """The head's gradient before any chunk, marked as different on every device."""
        zeros = jnp.zeros(head_DV.shape, jnp.float32)
        axes = self.batch_axes + ((self.vocab_axis,) if self.vocab_axis else ())
        return jax.lax.pcast(zeros, axes, to="varying") if axes else zeros

    def sum_over_vocab(self, x: jax.Array) -> jax.Array:
        """Add the parts that the shards of the vocabulary contribute."""
        return jax.lax.psum(x, self.vocab_axis) if self.vocab_axis else x

    def sum_over_batch(self, x: jax.Array) -> jax.Array:
        """Add over all rows of the global batch."""
        return jax.lax.psum(x, self.batch_axes) if self.batch_axes else x

    def reduce_head(self, dhead_DV: jax.Array | None) -> jax.Array | None:
        """Sum the head's gradient over the batch, each device keeping only its own part."""
        if dhead_DV is None or not self.batch_axes:
            return dhead_DV
        if self.embed_axis is None:
            return jax.lax.psum(dhead_DV, self.batch_axes)
        own = jax.lax.psum_scatter(dhead_DV, self.embed_axis, scatter_dimension=0, tiled=True)
        others = tuple(axis for axis in self.batch_axes if axis != self.embed_axis)
        return jax.lax.psum(own, others) if others else own
