"""The mesh, and the only table from logical axes to mesh axes.

The model names logical axes; nothing else in the package knows how they are split.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig, parameter_counts
from replay_jax.model.placement import Placement
from replay_jax.training.config import MeshConfig, nearest_divisor

MESH_AXES = ("replica", "fsdp", "tensor")
BATCH_AXES = ("replica", "fsdp")

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

# float32 parameter, two Adam moments and one gradient.
STATE_BYTES_PER_PARAMETER = 16
# Above this share of a device's memory the state is split (chosen: it leaves three quarters for
# activations, logits and temporaries).
REPLICATED_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class MeshChoice:
    """A mesh with every axis decided, and the reason in one sentence."""

    config: MeshConfig
    reason: str


def choose_mesh(
    config: MeshConfig, model: ModelConfig, *, devices: int, device_bytes: int
) -> MeshChoice:
    """Decide the axes that `config` leaves open for a number of devices of `device_bytes` memory.

    Small models are replicated, as that needs one collective per step; a model whose parameters,
    moments and gradients would fill more than REPLICATED_SHARE of a device is split over fsdp, no
    further than that needs and its embedding divides. Raises UserError if the axes do not multiply
    to `devices`.
    """
    if devices % config.tensor:
        raise UserError(
            f"mesh.tensor {config.tensor} does not divide {devices} devices; "
            f"{nearest_divisor(devices, config.tensor)} does."
        )
    left = devices // config.tensor
    if config.replica and config.fsdp:
        chosen, reason = config, "as asked for"
    elif config.replica or config.fsdp:
        given = config.replica or config.fsdp
        if left % given:
            name = "replica" if config.replica else "fsdp"
            raise UserError(
                f"mesh.{name} {given} does not divide the {left} devices left by mesh.tensor "
                f"{config.tensor}; {nearest_divisor(left, given)} does."
            )
        chosen = MeshConfig(
            config.replica or left // given, config.fsdp or left // given, config.tensor
        )
        reason = "as asked for, the other axis filled with the devices left"
    else:
        chosen, reason = _replicate_or_split(config, model, left, device_bytes)
    product = chosen.replica * chosen.fsdp * chosen.tensor
    if product != devices:
        raise UserError(
            f"mesh.replica {chosen.replica} x mesh.fsdp {chosen.fsdp} x mesh.tensor "
            f"{chosen.tensor} is {product}, but there are {devices} devices; set mesh.replica to "
            "0 to fill up."
        )
    return MeshChoice(chosen, reason)


def check_division(
    mesh: MeshConfig, model: ModelConfig, *, batch_size: int, accumulation: int, batch_name: str
) -> None:
    """Raise UserError, before anything is compiled, if the mesh does not divide the shapes.

    `batch_name` is the setting that holds `batch_size`, for the message.
    """
    ways = mesh.replica * mesh.fsdp
    micro = batch_size // accumulation
    if batch_size % accumulation or micro % ways:
        near = max(1, round(batch_size / (ways * accumulation))) * ways * accumulation
        raise UserError(
            f"A batch of {batch_size} sequences in {accumulation} microbatches does not divide "
            f"over {ways} devices (mesh.replica {mesh.replica} x mesh.fsdp {mesh.fsdp}); the "
            f"nearest {batch_name} that does is {near}."
        )
    if model.embed_dim % mesh.fsdp:
        raise UserError(
            f"model.embed_dim {model.embed_dim} does not divide over mesh.fsdp {mesh.fsdp}; "
            f"{nearest_divisor(model.embed_dim, mesh.fsdp)} would."
        )
    for name in ("num_heads", "num_kv_heads", "mlp_dim", "vocab_size"):
        size = getattr(model, name)
        if size % mesh.tensor:
            raise UserError(
                f"model.{name} {size} does not divide over mesh.tensor {mesh.tensor}; "
                f"{nearest_divisor(size, mesh.tensor)} would."
            )


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device]) -> Mesh:
    """Build the mesh of a decided `config`; slices of a multi-slice machine become replicas.

    Raises UserError if the axes do not multiply to the number of devices, or the slices do not
    divide `replica` (only gradients may cross the slower network between slices).
    """
    shape = (config.replica, config.fsdp, config.tensor)
    if 0 in shape or int(np.prod(shape)) != len(devices):
        raise UserError(
            f"A mesh of {shape} (replica, fsdp, tensor) cannot hold {len(devices)} devices."
        )
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if slices == 1:
        grid = mesh_utils.create_device_mesh(shape, devices)
    elif config.replica % slices:
        raise UserError(
            f"mesh.replica {config.replica} must be a multiple of the {slices} slices; "
            f"{max(1, round(config.replica / slices)) * slices} would do."
        )
    else:
        inside = (config.replica // slices, config.fsdp, config.tensor)
        grid = mesh_utils.create_hybrid_device_mesh(inside, (slices, 1, 1), devices)
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def partition_spec(logical_axes: Sequence[str | None]) -> PartitionSpec:
    """Translate one array's logical axes by the table.

    Raises ValueError for an axis without a rule, and where two axes of the array would be split
    over the same mesh axis; both name the axes.
    """
    rules = dict(LOGICAL_AXIS_RULES)
    used: dict[str, str] = {}
    result: list[str | tuple[str, ...] | None] = []
    for axis in logical_axes:
        if axis is None:
            result.append(None)
            continue
        if axis not in rules:
            raise ValueError(
                f"Logical axis {axis!r} of {tuple(logical_axes)} has no sharding rule; there are "
                f"rules for {', '.join(rules)}."
            )
        target = rules[axis]
        for mesh_axis in (target,) if isinstance(target, str) else target or ():
            if mesh_axis in used:
                raise ValueError(
                    f"Logical axes {used[mesh_axis]!r} and {axis!r} of {tuple(logical_axes)} are "
                    f"both split over mesh axis {mesh_axis!r}."
                )
            used[mesh_axis] = axis
        result.append(target)
    return PartitionSpec(*result)


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


def host_part(processes: np.ndarray, process: int) -> tuple[int, int]:
    """Which part of each batch a host must read: (index, count), given the mesh's owners.

    `processes` holds the process number of every device, shaped [replica, fsdp, tensor]. Hosts
    that share rows (tensor parallelism across hosts) get the same part. Raises UserError if the
    hosts' rows are not equal contiguous parts, which no per-host reader could serve.
    """
    rows = processes.reshape(-1, processes.shape[-1])
    mine = [row for row, owners in enumerate(rows) if process in owners]
    count, rest = divmod(len(rows), len(mine))
    index = mine[0] // len(mine)
    if rest or mine != list(range(index * len(mine), (index + 1) * len(mine))):
        raise UserError(
            f"Process {process} owns batch parts {mine} of {len(rows)}, which is not one equal, "
            "contiguous part; choose mesh.tensor so that it divides the devices of one host."
        )
    return index, count


def mesh_host_part(mesh: Mesh) -> tuple[int, int]:
    """`host_part` of this process on a mesh."""
    owners = np.vectorize(lambda device: device.process_index, otypes=[int])(mesh.devices)
    return host_part(owners, jax.process_index())


def _replicate_or_split(
    config: MeshConfig, model: ModelConfig, left: int, device_bytes: int
) -> tuple[MeshConfig, str]:
    need = STATE_BYTES_PER_PARAMETER * parameter_counts(model).total / config.tensor
    share = f"{need / 2**30:.2f} GiB of parameters, moments and gradients"
    limit = f"{REPLICATED_SHARE:.0%} of a device's {device_bytes / 2**30:.1f} GiB"
    if need <= REPLICATED_SHARE * device_bytes:
        return MeshConfig(left, 1, config.tensor), f"replicated: {share} are within {limit}"
    ways = [d for d in range(1, left + 1) if left % d == 0 and model.embed_dim % d == 0]
    # The fewest that bring the state within the limit: a larger group sends more, and over all
    # of a torus the TPU compiler has no all-gather for it (docs/performance_tpu.md).
    enough = next((d for d in ways if need / d <= REPLICATED_SHARE * device_bytes), ways[-1])
    return (
        MeshConfig(left // enough, enough, config.tensor),
        f"split over fsdp {enough}: {share} exceed {limit}",
    )
