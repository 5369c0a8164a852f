"""Compile the real train step ahead of time; say what it needs and how fast it can be.

Nothing of the model is built: the step is lowered from shapes with its real shardings, for a TPU
slice or a GPU machine that need not be attached, or for the local devices. The time is an estimate.
"""

import dataclasses
import math
import time
from typing import Any

from replay_jax.compile.chips import GPU_CHIPS
from replay_jax.compile.estimate import Estimate, estimate, model_flops
from replay_jax.compile.fitting import (
    NOTHING,
    PROGRAMS,
    Beside,
    compiled_or_peak,
    host_bytes,
    kept_bytes,
    other_peaks,
    starts,
)
from replay_jax.compile.gpus import gpu_machine
from replay_jax.compile.hlo.collectives import transfers
from replay_jax.compile.topology import Target, local_devices, tpu_slice
from replay_jax.progress import stage
from replay_jax.training.mesh.choice import MeshChoice, choose_mesh
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.step import StepShape, lower_train_step


@dataclasses.dataclass(frozen=True)
class CompileReport:
    """What a compiled step needs; bytes and FLOPs are of one device and one step.

    Of the `peaks` each must fit into HBM: of "training" state (parameters, average, moments, base),
    batch and temporaries; where asked about also of "evaluation" and "gradient cosine", beside the
    same state, and of a "population". `fits` says that all do, and that the host has
    `host_bytes_per_process` where its memory is known; `starts` that every process of the mesh gets
    as many rows of the batch. If a program does not fit, its peak is the compiler's own figure (0:
    unsaid), and `estimate` is None for training. `model_flops_per_device` has attention in full.
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
    host_bytes_per_process: int
    host_memory_bytes: int | None
    peaks: dict[str, int]
    hbm_bytes_per_device: int
    state_bytes_per_device: int
    temporary_bytes_per_device: int
    model_flops_per_device: float
    estimate: Estimate | None
    compile_seconds: float

    @property
    def largest(self) -> tuple[str, int]:
        """The program that needs most, and its peak; one of unsaid need (0) before all."""
        return max(self.peaks.items(), key=lambda item: item[1] or math.inf)

    def to_json(self) -> dict[str, Any]:
        """All fields as plain values, those of the estimate beside the others (null without)."""
        plain = dataclasses.asdict(self)
        peaks, estimate = plain.pop("peaks"), plain.pop("estimate")
        of = {f"{each.split()[-1]}_peak_bytes_per_device": peaks.get(each) for each in PROGRAMS}
        of["peak_bytes_per_device"] = of.pop("training_peak_bytes_per_device")
        empty = {field.name: None for field in dataclasses.fields(Estimate)}
        return {**plain, **of, **(estimate or empty)}


def target_of(topology: str | None) -> Target:
    """The devices to compile for: a TPU slice, a GPU machine, or the local ones for None.

    Raises UserError for an unknown name, or a missing libtpu or CUDA plugin.
    """
    if topology is None:
        return local_devices()
    is_gpu = topology.partition(":")[0] in GPU_CHIPS
    return gpu_machine(topology) if is_gpu else tpu_slice(topology)


def compile_report(
    shape: StepShape, mesh: MeshConfig, target: Target, beside: Beside = NOTHING
) -> CompileReport:
    """Compile the train step of `shape` for a target and cost it.

    The programs that run beside it are compiled too, for their memory. Raises UserError for a shape
    that the mesh does not divide.
    """
    choice = mesh_choice(shape, mesh, target, beside)
    device_mesh = make_mesh(choice.config, target.devices)
    start = time.perf_counter()
    with stage(f"compiling for {target.name}"):
        compiled, peak = compiled_or_peak(lower_train_step(shape, device_mesh), target)
        seconds = time.perf_counter() - start
        kept = kept_bytes(shape, device_mesh, beside)
        if compiled is not None:
            peak += kept.average
        others = other_peaks(shape, device_mesh, target, beside, kept)
    peaks = {"training": peak, **others}
    host, memory = host_bytes(device_mesh, kept, max(peaks.values()))
    state = kept.state + kept.average + kept.base
    found = None
    if compiled is not None and target.chip.peak_flops:
        sent = transfers(compiled.as_text() or "", devices=device_mesh.size)
        found = estimate(shape, device_mesh, target, state_bytes=state, sent=sent)
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
        and all(0 < each <= target.chip.hbm_bytes for each in peaks.values())
        and (memory is None or host <= memory),
        starts=starts(device_mesh),
        host_bytes_per_process=host,
        host_memory_bytes=memory,
        peaks=peaks,
        hbm_bytes_per_device=target.chip.hbm_bytes,
        state_bytes_per_device=state,
        temporary_bytes_per_device=max(0, peak - state),
        model_flops_per_device=model_flops(shape, causal_half=False) / device_mesh.size,
        estimate=found,
        compile_seconds=seconds,
    )


def mesh_choice(
    shape: StepShape, mesh: MeshConfig, target: Target, beside: Beside = NOTHING
) -> MeshChoice:
    """The mesh of a step on a target, every axis decided."""
    return choose_mesh(
        mesh,
        shape.model,
        devices=target.devices,
        device_bytes=target.chip.hbm_bytes,
        training_bytes=shape.training_bytes(average=beside.average),
    )


def gib(amount: float) -> str:
    """Bytes in words."""
    return f"{amount / 2**30:.2f} GiB"
