"""What makes XLA on CPU compute a thing late: by itself it starts whatever it can."""

import jax


def after(value: jax.Array, other: jax.Array) -> jax.Array:
    """Return `value` unchanged, on CPU computed no earlier than `other`.

    What a backward pass recomputes or fills with zeros depends on nothing that comes late, so XLA
    on CPU does it during the forward pass and keeps it in memory until it is needed
    (optimization barriers are gone before it orders operations). Adding zero times a late value
    makes it wait; `other` is a scalar or of the shape of `value`. If `other` is not finite,
    neither is the result, so take a gradient: a run ends anyway when that is not finite. Other
    platforms get `value` as it is; on TPU the sum cost a 150m step 1.3 GiB
    (docs/performance_tpu.md).
    """
    return jax.lax.platform_dependent(value, other, cpu=_wait, default=_at_once)


def _wait(value: jax.Array, other: jax.Array) -> jax.Array:
    return value + (0.0 * other).astype(value.dtype)


def _at_once(value: jax.Array, _: jax.Array) -> jax.Array:
    return value
