"""Which mesh a model gets on some devices, and whether a batch and a model divide over it."""

import dataclasses
from collections.abc import Sequence

import jax

from replay_jax.errors import UserError
from replay_jax.model.architecture import ModelConfig
from replay_jax.training.mesh.config import MeshConfig, nearest_divisor
from replay_jax.training.mesh.sharding import keeps_axes_whole, slice_count

# Above this share of a device's memory the state is split (chosen: it leaves three quarters for
# activations, logits and temporaries).
REPLICATED_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class MeshChoice:
    """A mesh with every axis decided, and the reason in one sentence."""

    config: MeshConfig
    reason: str


def choose_mesh(
    config: MeshConfig,
    model: ModelConfig,
    *,
    devices: Sequence[jax.Device],
    device_bytes: int,
    training_bytes: int,
) -> MeshChoice:
    """Decide the axes that `config` leaves open for devices of `device_bytes` memory each.

    Small models are replicated, as that needs one collective per step; a model of which
    `training_bytes` (`StepShape.training_bytes`) would fill more than REPLICATED_SHARE of a device
    is split over fsdp, no further than that needs, its embedding divides and a slice or node has
    devices. Every choice can be built by `sharding.make_mesh`. Raises UserError if the axes do not
    multiply to the number of devices.
    """
    number = len(devices)
    if number % config.tensor:
        raise UserError(
            f"mesh.tensor {config.tensor} does not divide {number} devices; "
            f"{nearest_divisor(number, config.tensor)} does."
        )
    left = number // config.tensor
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
        need = training_bytes / config.tensor
        chosen, reason = _replicate_or_split(config, model.embed_dim, devices, device_bytes, need)
    product = chosen.replica * chosen.fsdp * chosen.tensor
    if product != number:
        raise UserError(
            f"mesh.replica {chosen.replica} x mesh.fsdp {chosen.fsdp} x mesh.tensor "
            f"{chosen.tensor} is {product}, but there are {number} devices; set mesh.replica to "
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


def _replicate_or_split(
    config: MeshConfig, width: int, devices: Sequence[jax.Device], device_bytes: int, need: float
) -> tuple[MeshConfig, str]:
    left = len(devices) // config.tensor
    share = f"{need / 2**30:.2f} GiB of state and gradients"
    limit = f"{REPLICATED_SHARE:.0%} of a device's {device_bytes / 2**30:.1f} GiB"
    if need <= REPLICATED_SHARE * device_bytes:
        return MeshConfig(left, 1, config.tensor), f"replicated: {share} are within {limit}"
    inside = max(1, left // slice_count(devices))
    ways = [d for d in range(1, inside + 1) if inside % d == 0 and width % d == 0]
    # The fewest that bring the state within the limit: a larger group sends more, and over all
    # of a torus the TPU compiler has no all-gather for it (docs/performance_tpu.md). Twice as many
    # where that keeps the rings of the torus whole.
    enough = next((d for d in ways if need / d <= REPLICATED_SHARE * device_bytes), ways[-1])
    meshes = [MeshConfig(left // d, d, config.tensor) for d in (enough, 2 * enough) if d in ways]
    chosen = next((mesh for mesh in meshes if keeps_axes_whole(mesh, devices)), meshes[0])
    return chosen, f"split over fsdp {chosen.fsdp}: {share} exceed {limit}"
