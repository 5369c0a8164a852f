"""A checksum of every array of a state, the same however it is spread over devices.

The sum over all elements of their bits times an odd number made of their place, modulo 2^32: a
changed bit always changes it, two arrays exchanged or a row moved all but always do. Integers add
up alike in any order, so a state may be saved on one mesh and checked on another.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

# 2^32 over the golden ratio, odd: neighbours get factors that are far apart.
_SPREAD = 0x9E3779B9
_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def checksums(tree: Any) -> dict[str, int]:
    """The checksum of every array of a tree by its dotted name, computed where the arrays lie."""
    named = jax.tree_util.tree_flatten_with_path(tree)[0]
    leaves = [leaf for _, leaf in named]
    sums = np.asarray(_program(leaves[0].sharding)(leaves)).tolist()
    return {array_name(keys): each for (keys, _), each in zip(named, sums, strict=True)}


def changed_array(tree: Any, known: Mapping[str, int]) -> str:
    """Name of the first array of a tree that is not as its known checksum says; "" for none."""
    return next((name for name, each in checksums(tree).items() if known.get(name) != each), "")


def array_name(keys: tuple[Any, ...]) -> str:
    """Dotted name of a leaf, alike for attributes, keys and places in a list."""
    parts = (getattr(key, "name", getattr(key, "key", getattr(key, "idx", None))) for key in keys)
    return ".".join(str(part) for part in parts)


@functools.lru_cache
def _program(sharding: jax.sharding.Sharding) -> Callable[[list[jax.Array]], jax.Array]:
    """Every host needs all sums, of arrays that lie on the mesh of `sharding`."""
    if not isinstance(sharding, NamedSharding):
        return jax.jit(_sums)
    return jax.jit(_sums, out_shardings=NamedSharding(sharding.mesh, PartitionSpec()))


def _sums(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([_sum(leaf) for leaf in leaves])


def _sum(leaf: jax.Array) -> jax.Array:
    unsigned = _UNSIGNED[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)
    place, stride = jnp.zeros(leaf.shape, jnp.uint32), 1
    for axis in reversed(range(leaf.ndim)):
        counted = jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
        place = place + counted * jnp.uint32(stride % 2**32)
        stride *= leaf.shape[axis]
    factor = (place * jnp.uint32(2) + jnp.uint32(1)) * jnp.uint32(_SPREAD)
    return jnp.sum(bits * factor, dtype=jnp.uint32)
