"""The mesh, and the only table from logical axes to mesh axes.

The model names logical axes; nothing else in the package knows how they are split.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from replay_jax.errors import UserError
from replay_jax.model.placement import Placement
from replay_jax.training.mesh.config import MeshConfig

MESH_AXES = ("replica", "fsdp", "tensor")
REPLICA_AXES = ("replica",)
BATCH_AXES = (*REPLICA_AXES, "fsdp")

# Logical axis -> mesh axis or axes; None keeps it whole on every device. Parameters are split
# over fsdp along embed and over tensor along heads, mlp and vocab (Megatron, arXiv 1909.08053).
LOGICAL_AXIS_RULES: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("batch", BATCH_AXES),
    ("lookup_batch", "replica"),
    ("length", None),
    ("activation_embed", None),
    ("activation_mlp", "tensor"),
    ("activation_heads", "tensor"),
    ("vocab", "tensor"),
    ("embed", "fsdp"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("head_dim", None),
    ("norm", None),
    ("layers", None),
)

# The same for a program that is written for one replica, on its own rows.
RULES_WITHIN_REPLICA = tuple(
    (name, "fsdp" if axes == BATCH_AXES else None if axes == "replica" else axes)
    for name, axes in LOGICAL_AXIS_RULES
)


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """Build the mesh of a decided `config` (`device_grid`)."""
    return Mesh(device_grid(config, devices), MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def device_grid(config: MeshConfig, devices: Sequence[jax.Device]) -> np.ndarray:
    """Lay devices out [replica, fsdp, tensor]; slices of a multi-slice machine become replicas.

    On a TPU the axes follow the torus, and split an axis of it only where the mesh cannot be built
    otherwise. Raises UserError if the axes do not multiply to the number of devices, or the slices
    do not divide `replica` (only gradients may cross the slower network between slices or nodes).
    """
    shape = (config.replica, config.fsdp, config.tensor)
    if math.prod(shape) != len(devices):
        raise UserError(
            f"A mesh of {shape} (replica, fsdp, tensor) cannot hold {len(devices)} devices."
        )
    slices = slice_count(devices)
    if config.replica % slices:
        raise UserError(
            f"mesh.replica {config.replica} must be a multiple of the {slices} slices or nodes; "
            f"{max(1, round(config.replica / slices)) * slices} would do."
        )
    grid = _grid(shape, slices, devices, split=True)
    if grid is None:
        raise UserError(f"A mesh of {shape} cannot be laid on the torus; leave mesh.fsdp at 0.")
    return grid


def keeps_axes_whole(config: MeshConfig, devices: Sequence[jax.Device]) -> bool:
    """Whether a decided mesh is made of whole axes of the torus, so that rings stay rings."""
    shape = (config.replica, config.fsdp, config.tensor)
    return _grid(shape, slice_count(devices), devices, split=False) is not None


def slice_count(devices: Sequence[jax.Device]) -> int:
    """Slices (TPU) or nodes (GPU) that the devices belong to; 1 where JAX does not say."""
    return len({getattr(device, "slice_index", 0) for device in devices})


def _grid(
    shape: tuple[int, int, int], slices: int, devices: Sequence[jax.Device], *, split: bool
) -> np.ndarray | None:
    inside = (shape[0] // slices, *shape[1:])
    try:
        if slices == 1:
            return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=split)
        return mesh_utils.create_hybrid_device_mesh(
            inside, (slices, 1, 1), devices, allow_split_physical_axes=split
        )
    except NotImplementedError:  # no assignment of the torus's axes to those of the mesh
        return None


def partition_spec(logical_axes: Sequence[str | None]) -> PartitionSpec:
    """Translate one array's logical axes by the table.

    Raises KeyError for an axis without a rule. Two axes that are split over one mesh axis are
    refused by JAX, which names it.
    """
    rules = dict(LOGICAL_AXIS_RULES)
    return PartitionSpec(*(None if axis is None else rules[axis] for axis in logical_axes))


def tree_shardings(boxed: Any, mesh: Mesh) -> Any:
    """Shardings of a tree whose leaves are flax boxes with logical axes; bare leaves replicate."""
    return jax.tree.map(
        lambda leaf: NamedSharding(
            mesh,
            partition_spec(leaf.names) if isinstance(leaf, nn.Partitioned) else PartitionSpec(),
        ),
        boxed,
        is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned),
    )


def shardings_of(tree: Any) -> Any:
    """How every array of a tree is split."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of every array of a batch that goes to the devices: split by rows."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def placement(mesh: Mesh) -> Placement | None:
    """The mesh axes by role for kernels that run in shard_map; None on a single device."""
    if mesh.size == 1:
        return None
    sizes = dict(mesh.shape)
    return Placement(
        mesh=mesh,
        batch_axes=BATCH_AXES,
        heads_axis="tensor" if sizes["tensor"] > 1 else None,
        vocab_axis="tensor" if sizes["tensor"] > 1 else None,
        embed_axis="fsdp" if sizes["fsdp"] > 1 else None,
    )


def host_rows(owners: np.ndarray, process: int, batch_size: int) -> np.ndarray:
    """The rows of a global batch that a process must provide, ascending, int64.

    `owners` holds the process of every device of the mesh, shaped [replica, fsdp, tensor]. The
    rows need not be contiguous: a TPU mesh is ordered by the torus, of which a host owns a block.
    Hosts over which the tensor axis goes provide the same rows. This order is the one in which
    `jax.make_array_from_process_local_data` takes them (`place_batch`).
    """
    parts = owners.reshape(-1, owners.shape[-1])
    mine = np.flatnonzero((parts == process).any(axis=1))
    rows_of_parts = np.arange(batch_size, dtype=np.int64).reshape(len(parts), -1)
    return rows_of_parts[mine].reshape(-1)


def mesh_owners(mesh: Mesh) -> np.ndarray:
    """The process of every device of a mesh, shaped as its devices."""
    return np.vectorize(lambda device: device.process_index, otypes=[int])(mesh.devices)


def mesh_host_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """`host_rows` of this process for a batch of `batch_size` sequences over all hosts."""
    return host_rows(mesh_owners(mesh), jax.process_index(), batch_size)
