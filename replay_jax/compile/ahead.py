"""Compile the real train step ahead of time; say what it needs and how fast it can be.

Nothing of the model is built: the step is lowered from shapes with its real shardings, for a TPU
slice or a GPU machine that need not be attached, or for the local devices. The time is an estimate
from the compiled text: it knows neither latency nor vector units nor a GPU's caches.
"""

import dataclasses
import time
from typing import Any

from jax.sharding import Mesh

from replay_jax.compile.fitting import compiled_or_peak, evaluation_peak, starts, state_bytes
from replay_jax.compile.gpus import GPU_CHIPS, gpu_machine
from replay_jax.compile.hlo.costs import ProgramCost, program_cost
from replay_jax.compile.hlo.text import parse_module
from replay_jax.compile.roofline import Speeds, roofline
from replay_jax.compile.topology import Target, local_devices, tpu_slice, wire_bandwidth
from replay_jax.model.flops import flops_per_token
from replay_jax.training.mesh.choice import MeshChoice, choose_mesh
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.step import StepShape, lower_train_step

LARGEST_SHARES = 12


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
    temporaries of the train step; so must `evaluation_peak_bytes_per_device`, of the held-out loss
    beside the same state (None if no evaluation was asked about). `fits` says that all do,
    `starts` that every process of the mesh gets as many rows of the batch as the others. If a
    program does not fit, its peak is the compiler's own figure (0: unsaid), and `estimate` is None
    for the train step's. `model_flops_per_device` counts attention in full.
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
    starts: bool
    evaluation_peak_bytes_per_device: int | None
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


def compile_report(
    shape: StepShape, mesh: MeshConfig, *, topology: str | None, evaluation_batch: int | None = None
) -> CompileReport:
    """Compile the train step of `shape` for a topology (None: the local devices) and cost it.

    With an evaluation's batch (sequences), its program too, for its memory.

    Raises UserError as `target_of` does, or for a shape that the mesh does not divide.
    """
    return report_on(shape, mesh, target_of(topology), evaluation_batch)


def report_on(
    shape: StepShape, mesh: MeshConfig, target: Target, evaluation_batch: int | None = None
) -> CompileReport:
    """`compile_report` for devices that were looked up before."""
    choice = mesh_choice(shape, mesh, target)
    device_mesh = make_mesh(choice.config, target.devices)
    start = time.perf_counter()
    compiled, peak = compiled_or_peak(lower_train_step(shape, device_mesh), target)
    seconds = time.perf_counter() - start
    evaluation = evaluation_peak(shape, device_mesh, target, evaluation_batch)
    estimate = None
    if compiled is not None and target.chip.peak_flops:
        module = parse_module(compiled.as_text() or "")
        cost = program_cost(module, devices=len(target.devices))
        estimate = _estimate(shape, cost, device_mesh, target)
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
        fits=compiled is not None
        and evaluation != 0
        and max(peak, evaluation or 0) <= target.chip.hbm_bytes,
        starts=starts(device_mesh),
        evaluation_peak_bytes_per_device=evaluation,
        peak_bytes_per_device=peak,
        hbm_bytes_per_device=target.chip.hbm_bytes,
        state_bytes_per_device=state,
        temporary_bytes_per_device=max(0, peak - state),
        model_flops_per_device=_model_flops(shape, len(target.devices), causal_half=False),
        estimate=estimate,
        compile_seconds=seconds,
    )


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
    if report.evaluation_peak_bytes_per_device is not None:
        lines.append(f"evaluation: peak {gib(report.evaluation_peak_bytes_per_device)}")
    if not report.starts:
        lines.append("it does not start: the processes get unequal rows of a batch")
    found = report.estimate
    if found is None:
        return "\n".join(lines)
    lines += [
        f"work per step: {found.flops_per_device / 1e12:.3g} TFLOP in matrix products (the model "
        f"needs {report.model_flops_per_device / 1e12:.3g}), {found.hbm_bytes_moved / 1e9:.3g} GB "
        f"through HBM, {found.collective_bytes / 1e9:.3g} GB sent",
        f"estimate: {1e3 * found.roofline_seconds:.4g} ms per step, limited by {found.limit}; "
        f"MFU at most {found.mfu_bound:.1%} (attention in full), "
        f"{found.mfu_bound_causal:.1%} (halved)",
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
