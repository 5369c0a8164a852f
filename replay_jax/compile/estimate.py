"""An estimate of the time of a step: its products, what passes through memory, what is sent.

Matrix products run at the chip's peak, all else that must pass through HBM passes at its
bandwidth, and transfers take their links; one follows the other, but for transfers that the
compiler itself has put beside compute. Products and memory are counted by formula, transfers in the
compiled program. Latency, vector units and kernels that do not reach peak are not in it.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from replay_jax.compile.hlo.collectives import Transfers
from replay_jax.compile.topology import Target, wire_bandwidth
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.flops import flops_per_token, forward_flops_per_token
from replay_jax.model.trained import FLOAT32_BYTES, trained_bytes
from replay_jax.training.config import StepShape
from replay_jax.training.step import platform_of

# Passes of a bfloat16 matrix unit for a float32 product, by the precision that JAX is asked for.
_PASSES = {"default": 1, "high": 3, "highest": 6}
# Forward every number of a layer is written and read; backward it is read, its gradient written
# and read, and read for that of a matrix.
_FORWARD_PASSES, _BACKWARD_PASSES = 2, 4
# Logits are written, and read for the gradients of the hidden states and of the head.
_LOGIT_PASSES = 3


@dataclass(frozen=True)
class Estimate:
    """Cost and estimated time of one step of a program that fits, on one device.

    `flops_per_device` are those of matrix products, recomputation counted and of attention the half
    that is needed. `mfu_estimate` is model FLOPs / (roofline_seconds x peak), attention counted in
    full as in most published figures; `mfu_estimate_causal` counts only the half of it.
    `roofline_parts` are the seconds by what they are spent on, the most of them on the `limit`.
    """

    flops_per_device: float
    hbm_bytes_moved: float
    collective_bytes: float
    roofline_seconds: float
    roofline_parts: dict[str, float]
    mfu_estimate: float
    mfu_estimate_causal: float
    limit: str
    loops_of_unknown_length: list[str]


def estimate(
    shape: StepShape, mesh: Mesh, target: Target, *, state_bytes: int, sent: Transfers
) -> Estimate:
    """Estimate a step of which a device holds `state_bytes` and sends what its program says."""
    chip = target.chip
    flops, moved = executed_flops(shape) / mesh.size, moved_bytes(shape, mesh, state_bytes)
    passes = _PASSES[shape.model.product_precision]
    waiting, beside = _wire_seconds(sent, mesh, target)
    parts = {
        "matrix units": passes * flops / chip.peak_flops,
        "HBM bandwidth": moved / chip.hbm_bandwidth,
        "interconnect": waiting,
    }
    shown = sum(parts.values())
    parts["transfers beside compute"] = max(0.0, beside - shown)
    seconds = sum(parts.values())
    most = seconds * chip.peak_flops * mesh.size
    return Estimate(
        flops_per_device=flops,
        hbm_bytes_moved=moved,
        collective_bytes=sent.bytes,
        roofline_seconds=seconds,
        roofline_parts=parts,
        mfu_estimate=model_flops(shape, causal_half=False) / most,
        mfu_estimate_causal=model_flops(shape, causal_half=True) / most,
        limit=max(parts, key=lambda name: parts[name]),
        loops_of_unknown_length=list(sent.unknown_loops),
    )


def model_flops(shape: StepShape, *, causal_half: bool) -> float:
    """FLOPs that the model needs for a step on all devices, nothing recomputed."""
    about: Any = {"seq_len": shape.seq_len, "causal_half": causal_half}
    per_token = flops_per_token(shape.model, **about).total
    if shape.kl_sources:
        per_token += forward_flops_per_token(shape.model, **about)
    return per_token * shape.batch_size * shape.seq_len


def executed_flops(shape: StepShape) -> float:
    """FLOPs of the matrix products of a step on all devices, the recomputed ones among them.

    Rematerialisation "full" repeats the forward pass of the layers, "matmuls" no product of them.
    """
    flops, model = model_flops(shape, causal_half=True), shape.model
    if model.remat == "full":
        forward = forward_flops_per_token(model, shape.seq_len, causal_half=True)
        layers = forward - 2 * model.embed_dim * model.vocab_size
        flops += layers * shape.batch_size * shape.seq_len
    return flops


def moved_bytes(shape: StepShape, mesh: Mesh, state_bytes: int) -> float:
    """Bytes of one step through the HBM of a device, but for what products read and write besides.

    The state is read and written, the gradient of each microbatch added to a sum; the numbers of
    every token in each layer, and its logits, make their passes. Logits are kept in the dtype of
    the computation on TPUs, in float32 elsewhere (`model.loss`).
    """
    model, axes = shape.model, mesh.shape
    ways = axes["replica"] * axes["fsdp"]
    gradient = trained_bytes(model) / (axes["fsdp"] * axes["tensor"])
    width = jnp.dtype(model.compute_dtype).itemsize
    of_logit = width if platform_of(mesh) == "tpu" else FLOAT32_BYTES
    forward = _FORWARD_PASSES * (1 + (model.remat != "none") + bool(shape.kl_sources))
    features = model.num_layers * layer_numbers(model, axes["tensor"]) * width
    logits = (1 + bool(shape.kl_sources)) * model.vocab_size / axes["tensor"] * of_logit
    per_token = (forward + _BACKWARD_PASSES) * features + _LOGIT_PASSES * logits
    tokens = shape.batch_size * shape.seq_len / ways
    return 2 * state_bytes + 2 * shape.accumulation * gradient + tokens * per_token


def layer_numbers(model: ModelConfig, tensor: int) -> float:
    """Numbers of a token that one layer makes on a device, after Korthikanti et al. (2022).

    (arXiv 2205.05198, section 4.1.) Both norms, both sums with the residual; queries, keys, values
    and attention's result; gate, up and their product. Attention's scores stay on the chip.
    """
    heads = 2 * (model.num_heads + model.num_kv_heads) * model.head_dim
    return 4 * model.embed_dim + (heads + 3 * model.mlp_dim) / tensor


def _wire_seconds(sent: Transfers, mesh: Mesh, target: Target) -> tuple[float, float]:
    """Seconds of transfers that compute waits for, and of those beside it."""
    devices, bandwidths = list(mesh.devices.flat), dict[tuple[int, ...], float]()
    seconds = [0.0, 0.0]
    for each in sent.every:
        if each.group not in bandwidths:
            bandwidths[each.group] = wire_bandwidth(target, [devices[i] for i in each.group])
        spent = each.times * each.wire_bytes / bandwidths[each.group]
        seconds[each.beside_compute] += spent
    return seconds[0], seconds[1]
