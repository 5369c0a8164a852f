"""Compile the real train step ahead of time; say what it needs and how fast it can be.

Nothing of the model is built: the step is lowered from shapes with its real shardings, for a TPU
slice or a GPU machine that need not be attached, or for the local devices.
"""

import dataclasses
import math
import re
import time
from typing import Any

import jax
from jax.sharding import Mesh

from replay_jax.compile.gpus import GPU_CHIPS, gpu_machine
from replay_jax.compile.hlo.costs import ProgramCost, program_cost
from replay_jax.compile.hlo.text import parse_module
from replay_jax.compile.roofline import Speeds, roofline
from replay_jax.compile.topology import Target, local_devices, tpu_slice, wire_bandwidth
from replay_jax.model.flops import flops_per_token
from replay_jax.training.config import MeshConfig
from replay_jax.training.devices import compiler_options
from replay_jax.training.mesh_choice import MeshChoice, choose_mesh
from replay_jax.training.sharding import make_mesh
from replay_jax.training.step import StepShape, abstract_state, lower_train_step

LARGEST_SHARES = 12
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Cost and least time of one step of a program that fits, on one device.

    `mfu_bound` is model FLOPs / (roofline_seconds x peak), with attention counted in full as most
    published figures do; `mfu_bound_causal` counts only the half of it that is needed.
    `largest_shares` are (instruction, seconds, what limits it) in order.
    """

    flops_per_device: float
    hbm_bytes_moved: float
    collective_bytes: float
    roofline_seconds: float
    roofline_parts: dict[str, float]
    mfu_bound: float
    mfu_bound_causal: float
    limit: str
    largest_shares: list[tuple[str, float, str]]
    loops_of_unknown_length: list[str]


@dataclasses.dataclass(frozen=True)
class CompileReport:
    """What a compiled step needs; bytes and FLOPs are of one device and one step.

    `peak_bytes_per_device` must fit into HBM: state (parameters and moments), batch, and all
    temporaries. If the program does not fit, the peak is the compiler's own figure and `estimate`
    is None. `model_flops_per_device` counts attention in full.
    """

    topology: str
    devices: int
    chip: str
    mesh: dict[str, int]
    mesh_reason: str
    rows_per_device: int
    accumulation: int
    remat: str
    fits: bool
    peak_bytes_per_device: int
    hbm_bytes_per_device: int
    state_bytes_per_device: int
    temporary_bytes_per_device: int
    model_flops_per_device: float
    estimate: Estimate | None
    compile_seconds: float

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values, those of the estimate beside the others (null without)."""
        plain = dataclasses.asdict(self)
        estimate = plain.pop("estimate")
        empty = {field.name: None for field in dataclasses.fields(Estimate)}
        return {**plain, **(estimate or empty)}


def target_of(topology: str | None) -> Target:
    """The devices to compile for: a TPU slice, a GPU machine, or the local ones for None.

    Raises UserError for an unknown name, or a missing libtpu, CUDA plugin or cuDNN.
    """
    if topology is None:
        return local_devices()
    is_gpu = topology.partition(":")[0] in GPU_CHIPS
    return gpu_machine(topology) if is_gpu else tpu_slice(topology)


def compile_report(shape: StepShape, mesh: MeshConfig, *, topology: str | None) -> CompileReport:
    """Compile the train step of `shape` for a topology (None: the local devices) and cost it.

    Raises UserError as `target_of` does, or for a shape that the mesh does not divide.
    """
    return report_on(shape, mesh, target_of(topology))


def report_on(shape: StepShape, mesh: MeshConfig, target: Target) -> CompileReport:
    """`compile_report` for devices that were looked up before."""
    choice = mesh_choice(shape, mesh, target)
    device_mesh = make_mesh(choice.config, target.devices)
    start = time.perf_counter()
    lowered = lower_train_step(shape, device_mesh)
    compiled = None
    try:
        compiled = lowered.compile(told(target) or None)
    except jax.errors.JaxRuntimeError as error:
        peak = peak_of_failure(str(error))
        if peak is None:
            raise
    seconds = time.perf_counter() - start
    estimate = None
    if compiled is not None:
        peak = _peak_bytes(compiled)
        module = parse_module(compiled.as_text() or "")
        cost = program_cost(module, devices=len(target.devices))
        estimate = _estimate(shape, cost, device_mesh, target)
    assert peak is not None
    state = state_bytes(shape, device_mesh)
    config = choice.config
    return CompileReport(
        topology=target.name,
        devices=len(target.devices),
        chip=target.chip.name,
        mesh=dataclasses.asdict(config),
        mesh_reason=choice.reason,
        rows_per_device=shape.batch_size // (shape.accumulation * config.replica * config.fsdp),
        accumulation=shape.accumulation,
        remat=shape.model.remat,
        fits=compiled is not None and peak <= target.chip.hbm_bytes,
        peak_bytes_per_device=peak,
        hbm_bytes_per_device=target.chip.hbm_bytes,
        state_bytes_per_device=state,
        temporary_bytes_per_device=max(0, peak - state),
        model_flops_per_device=_model_flops(shape, len(target.devices), causal_half=False),
        estimate=estimate,
        compile_seconds=seconds,
    )


def told(target: Target) -> dict[str, Any]:
    """What the compiler is told: what a run tells it, and what only this report needs."""
    platform = target.devices[0].platform
    return {**(compiler_options(platform) or {}), **dict(target.chip.compiler_options)}


def render(report: CompileReport) -> str:
    """The report as lines for a terminal."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in report.mesh.items())
    verdict = "fits" if report.fits else "DOES NOT FIT"
    hbm = report.hbm_bytes_per_device
    lines = [
        f"{report.topology}: {report.devices} x {report.chip}, mesh {mesh} ({report.mesh_reason})",
        f"rows per device {report.rows_per_device}, accumulation {report.accumulation}, "
        f"rematerialisation {report.remat}, compiled in {report.compile_seconds:.0f} s",
        f"memory: {verdict}: peak {gib(report.peak_bytes_per_device)} of {gib(hbm)} "
        f"({_room(report)}), state "
        f"{gib(report.state_bytes_per_device)}, temporaries "
        f"{gib(report.temporary_bytes_per_device)}",
    ]
    found = report.estimate
    if found is None:
        return "\n".join(lines)
    lines += [
        f"work per step: {found.flops_per_device / 1e12:.3g} TFLOP in matrix products (the model "
        f"needs {report.model_flops_per_device / 1e12:.3g}), {found.hbm_bytes_moved / 1e9:.3g} GB "
        f"through HBM, {found.collective_bytes / 1e9:.3g} GB sent",
        f"bound: {1e3 * found.roofline_seconds:.4g} ms per step, limited by {found.limit}; MFU at "
        f"most {found.mfu_bound:.1%} (attention in full), {found.mfu_bound_causal:.1%} (halved)",
        "parts: " + ", ".join(f"{k} {1e3 * v:.3g} ms" for k, v in found.roofline_parts.items()),
        "longest:",
    ]
    alike: dict[tuple[str, str], list[float]] = {}
    for name, seconds, limit in found.largest_shares:
        alike.setdefault((limit, name[-72:]), []).append(seconds)
    lines += [
        f"  {1e3 * sum(each):8.3g} ms  {limit:5}  {len(each):2} x  {name}"
        for (limit, name), each in alike.items()
    ]
    if found.loops_of_unknown_length:
        lines.append(f"counted once, length unknown: {', '.join(found.loops_of_unknown_length)}")
    return "\n".join(lines)


def peak_of_failure(message: str) -> int | None:
    """Bytes that a compiler error says a program needs, None if it is no lack of memory."""
    found = re.search(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM", message)
    if found:
        return int(float(found[1]) * _UNITS[found[2]])
    return 0 if "RESOURCE_EXHAUSTED" in message else None


def state_bytes(shape: StepShape, mesh: Mesh) -> int:
    """Bytes of parameters and optimizer state that one device holds (unpadded)."""
    leaves = jax.tree.leaves(abstract_state(shape.model, mesh))
    sizes = (math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    return sum(n * leaf.dtype.itemsize for n, leaf in zip(sizes, leaves, strict=True))


def _peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes of arguments, results that reuse none of them, and temporaries."""
    memory: Any = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(memory.argument_size_in_bytes + results + memory.temp_size_in_bytes)


def _estimate(shape: StepShape, cost: ProgramCost, mesh: Mesh, target: Target) -> Estimate:
    devices = list(mesh.devices.flat)
    bandwidths: dict[tuple[int, ...], float] = {}

    def wire(group: tuple[int, ...]) -> float:
        if group not in bandwidths:
            bandwidths[group] = wire_bandwidth(target, [devices[i] for i in group])
        return bandwidths[group]

    chip = target.chip
    bound = roofline(cost, Speeds(chip.peak_flops, chip.hbm_bandwidth, wire))
    most = bound.total * chip.peak_flops
    return Estimate(
        flops_per_device=cost.flops,
        hbm_bytes_moved=cost.hbm_bytes,
        collective_bytes=cost.collective_bytes,
        roofline_seconds=bound.total,
        roofline_parts=bound.parts,
        mfu_bound=_model_flops(shape, len(devices), causal_half=False) / most,
        mfu_bound_causal=_model_flops(shape, len(devices), causal_half=True) / most,
        limit=bound.limit,
        largest_shares=[(s.name, s.seconds, s.limit) for s in bound.shares[:LARGEST_SHARES]],
        loops_of_unknown_length=list(cost.unknown_loops),
    )


def _model_flops(shape: StepShape, devices: int, *, causal_half: bool) -> float:
    per_token = flops_per_token(shape.model, shape.seq_len, causal_half=causal_half)
    return per_token.total * shape.batch_size * shape.seq_len / devices


def mesh_choice(shape: StepShape, mesh: MeshConfig, target: Target) -> MeshChoice:
    """The mesh of a step on a target, every axis decided."""
    return choose_mesh(
        mesh, shape.model, devices=target.devices, device_bytes=target.chip.hbm_bytes
    )


def _room(report: CompileReport) -> str:
    free = 1 - report.peak_bytes_per_device / report.hbm_bytes_per_device
    if report.fits:
        return f"{free:.0%} free"
    return f"{-free:.0%} too much" if report.peak_bytes_per_device else "the compiler did not say"


def gib(amount: float) -> str:
    """Bytes in words."""
    return f"{amount / 2**30:.2f} GiB"
