"""The terms of a cross-entropy at each row's label, in the form that each platform fuses best.

Shape letters: N rows (tokens), D width, V vocabulary or this device's part of it. Labels count from
the start of the part, so they may be negative or past its end.
"""

import jax
import jax.numpy as jnp


def at_labels(logits_NV: jax.Array, labels_N: jax.Array) -> jax.Array:
    """Each row's logit at its label; 0 where the label lies in another part of the vocabulary.

    A gather: free on CPU, where a masked sum is a third of the loss's elementwise work.
    """
    width = logits_NV.shape[1]
    inside_N = (labels_N >= 0) & (labels_N < width)
    places_N1 = jnp.clip(labels_N, 0, width - 1)[:, None]
    return jnp.where(inside_N, jnp.take_along_axis(logits_NV, places_N1, axis=1)[:, 0], 0.0)


def label_logits(x_ND: jax.Array, head_DV: jax.Array, labels_N: jax.Array) -> jax.Array:
    """Each row's logit at its label from the head's column; 0 where another part has it."""
    inside_N = (labels_N >= 0) & (labels_N < head_DV.shape[1])
    places_N = jnp.clip(labels_N, 0, head_DV.shape[1] - 1)
    columns_ND = jnp.take(head_DV.T, places_N, axis=0).astype(jnp.float32)
    return jnp.where(inside_N, jnp.sum(x_ND.astype(jnp.float32) * columns_ND, axis=-1), 0.0)


def put_at_labels(
    powers_NV: jax.Array, labels_N: jax.Array, label_N: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Put a float32 value in each row at its label, where that lies in this part.

    The result comes twice, once for each product that reads it.
    """

    def put(powers_NV: jax.Array, labels_N: jax.Array, label_N: jax.Array) -> jax.Array:
        label_N1 = label_N.astype(powers_NV.dtype)[:, None]
        return jnp.where(hits(powers_NV, labels_N), label_N1, powers_NV)

    def once(
        powers_NV: jax.Array, labels_N: jax.Array, label_N: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        put_NV = put(powers_NV, labels_N, label_N)
        return put_NV, put_NV

    def twice(
        powers_NV: jax.Array, labels_N: jax.Array, label_N: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        # Behind the barrier the two are not seen to be equal, so a TPU forms each within its
        # product, where it is free, and writes neither to memory.
        behind_NV = jax.lax.optimization_barrier(powers_NV)
        return put(powers_NV, labels_N, label_N), put(behind_NV, labels_N, label_N)

    return jax.lax.platform_dependent(
        powers_NV, labels_N, label_N, cpu=once, cuda=once, default=twice
    )


def hits(logits_NV: jax.Array, labels_N: jax.Array) -> jax.Array:
    """Where each row's label is: bool [N, V]."""
    places_1V = jnp.arange(logits_NV.shape[1], dtype=labels_N.dtype)[None]
    return places_1V == labels_N[:, None]
