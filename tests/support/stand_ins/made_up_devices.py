"""Descriptions of devices that nobody has, with what the mesh choice reads of them."""

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class MadeUp:
    """A device: a chip of a torus, or one of a node without one."""

    id: int
    process_index: int
    slice_index: int = 0
    platform: str = "gpu"
    device_kind: str = "made up"
    coords: tuple[int, ...] = ()
    core_on_chip: int = 0


def nodes(count, *, per_node=None):
    """`count` devices, so many on each node, one process per node; on one node unless told."""
    per_node = per_node or count
    return [MadeUp(n, n // per_node, n // per_node) for n in range(count)]


def torus(extent):
    """The chips of a TPU slice, listed host by host; a host owns a block of 2 x 2 (x 1)."""
    across = [length // 2 for length in extent[:2]]
    chips = []
    for coords in itertools.product(*(range(length) for length in extent)):
        x, y, z = (*coords, 0)[:3]
        host = (z * across[1] + y // 2) * across[0] + x // 2
        chips.append((host, (z, y, x)))
    kind = "TPU v4" if len(extent) == 3 else "TPU v5 lite"
    return [
        MadeUp(n, host, 0, "tpu", kind, coords[::-1])
        for n, (host, coords) in enumerate(sorted(chips))
    ]
