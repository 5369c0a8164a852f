"""What a step is compiled for: a named TPU slice that need not be there, or the local devices."""

import dataclasses
import importlib.util
import os
from collections.abc import Sequence

import jax

from replay_jax.compile.chips import KNOWN_SHAPES, Chip, chip_of, tpu_of_kind, unknown_topology
from replay_jax.errors import UserError
from replay_jax.training.mesh.devices import attached_devices


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for: their name, chip, extent per axis of the torus, and descriptions."""

    name: str
    chip: Chip
    extent: tuple[int, ...]
    devices: tuple[jax.Device, ...]


def tpu_slice(name: str) -> Target:
    """Describe a TPU slice such as "v4:4x4x4", one device per chip; no TPU is needed or used.

    Makes the CPU this process's own backend if it has none yet, so that a TPU that is attached
    stays free for the process that trains on it.

    Raises:
        UserError: the slice is not known (the message lists those that are), or libtpu is missing.
    """
    chip, extent = chip_of(name)
    if importlib.util.find_spec("libtpu") is None:
        version, _, shape = name.partition(":")
        if shape not in KNOWN_SHAPES[version]:
            raise UserError(unknown_topology(name, "not known"))
        raise UserError(
            f"Compiling for {name} needs libtpu, which is not installed; "
            "pip install 'replay-jax[tpu-compile]' (Linux; no TPU is needed)."
        )
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    # libtpu locks itself to one process per machine, which matters only to those that use a TPU.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        # Also shapes that are not in the table: only libtpu knows all.
        description = topologies.get_topology_desc(
            platform="tpu", topology_name=name, **dict(chip.options)
        )
    except jax.errors.JaxRuntimeError as refusal:
        why = str(refusal).removeprefix("INVALID_ARGUMENT: ").split("\n")[0]
        raise UserError(unknown_topology(name, f"not known to libtpu ({why})")) from refusal
    return Target(name, chip, extent, tuple(description.devices))


def local_devices() -> Target:
    """Describe the devices of this process; of a chip that is not in the table only the memory.

    No speed is measured for one: on a CPU, whose caches the estimate knows nothing of, it came out
    above the time that steps really took.
    """
    devices = tuple(attached_devices())
    known = tpu_of_kind(devices[0].device_kind)
    chip = known or _unknown_chip(devices[0], len(jax.local_devices()))
    return Target("local", chip, (len(devices),), devices)


def wire_bandwidth(target: Target, devices: Sequence[jax.Device]) -> float:
    """Bytes/s that each device of a group can send to the others of the group.

    On a torus a group uses the links of the axes along which it extends: two for an axis that is
    closed to a ring and wholly used, one otherwise. Elsewhere it is the chip's one link.
    """
    coords = [getattr(device, "coords", None) for device in devices]
    links = 0
    for axis, length in enumerate(target.extent):
        used = {c[axis] for c in coords if c is not None}
        if len(used) > 1:
            links += 2 if len(used) == length and length % target.chip.wrap == 0 else 1
    return max(links, 1) * target.chip.link_bandwidth


def _unknown_chip(device: jax.Device, sharing: int) -> Chip:
    """A device of no known speeds; `sharing` devices share the machine's memory (fake CPU ones)."""
    stats = device.memory_stats() or {}
    memory = int(stats["bytes_limit"]) if "bytes_limit" in stats else host_memory() // sharing
    return Chip(device.device_kind, 0.0, memory, 0.0, 0.0, wrap=1)


def host_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
