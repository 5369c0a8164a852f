"""Whether a run fits and starts: peaks of its programs, and rows for every process of its mesh."""

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh

from replay_jax.compile.topology import Target
from replay_jax.training.config import StepShape
from replay_jax.training.evaluate import evaluation_shape, lower_evaluation
from replay_jax.training.mesh.devices import compiler_options
from replay_jax.training.mesh.sharding import host_rows, mesh_owners
from replay_jax.training.step import abstract_state

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def starts(mesh: Mesh) -> bool:
    """Whether every process gets rows, all as many, and together the whole batch."""
    owners = mesh_owners(mesh)
    ways = mesh.shape["replica"] * mesh.shape["fsdp"]
    rows = [host_rows(owners, process, ways).tolist() for process in set(owners.flat)]
    alike = len({len(mine) for mine in rows}) == 1
    return alike and sorted({row for mine in rows for row in mine}) == list(range(ways))


def compiled_or_peak(
    lowered: jax.stages.Lowered, target: Target
) -> tuple[jax.stages.Compiled | None, int]:
    """The program and its peak; if memory runs out none, and the compiler's figure (0: unsaid)."""
    try:
        compiled = lowered.compile(told(target) or None)
    except jax.errors.JaxRuntimeError as error:
        peak = peak_of_failure(str(error))
        if peak is None:
            raise
        return None, peak
    return compiled, _peak_bytes(compiled)


def evaluation_peak(
    shape: StepShape, mesh: Mesh, target: Target, batch_size: int | None
) -> int | None:
    """Bytes of one device while it evaluates: the program, and the moments that lie beside it."""
    if batch_size is None:
        return None
    measured = evaluation_shape(shape, mesh, batch_size=batch_size)
    compiled, peak = compiled_or_peak(lower_evaluation(measured, mesh), target)
    return peak + state_bytes(shape, mesh) * 2 // 3 if compiled is not None or peak else 0


def told(target: Target) -> dict[str, Any]:
    """What the compiler is told: what a run tells it, and what only this report needs."""
    platform = target.devices[0].platform
    return {**(compiler_options(platform) or {}), **dict(target.chip.compiler_options)}


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
