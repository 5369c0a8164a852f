"""Whether a run fits and starts: peaks of its programs, and rows for every process of its mesh."""

import math
import re
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from replay_jax.compile.topology import Target, host_memory
from replay_jax.model.trained import trained_bytes
from replay_jax.training.config import StepShape
from replay_jax.training.evaluate import evaluation_shape, lower_evaluation, lower_gradient_cosine
from replay_jax.training.mesh.devices import compiler_options
from replay_jax.training.mesh.sharding import host_rows, mesh_owners
from replay_jax.training.population import lower_population
from replay_jax.training.step import abstract_state, platform_of
from replay_jax.training.trainable import as_base, split

# What a run compiles; by the last word in the JSON of a report.
PROGRAMS = ("training", "evaluation", "gradient cosine", "population")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def starts(mesh: Mesh) -> bool:
    """Whether all processes get as many rows, and any two of them the same or none in common."""
    owners = mesh_owners(mesh)
    ways = mesh.shape["replica"] * mesh.shape["fsdp"]
    rows = {tuple(host_rows(owners, process, ways).tolist()) for process in set(owners.flat)}
    return len({len(mine) for mine in rows}) == 1 and sum(map(len, rows)) == ways


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


class Beside(NamedTuple):
    """What a run does beside its step.

    `cosine`: compare gradients of a microbatch's rows; `average`: keep one of its parameters.
    """

    evaluation_batch: int | None = None
    lanes: int = 1
    cosine: bool = False
    average: bool = False


NOTHING = Beside()


class Kept(NamedTuple):
    """Bytes that one device holds of a model in training (unpadded).

    `moments` are a part of the `state`; `average` is that of the trained parameters, `base` the
    model that rows are held to; each is 0 where there is none.
    """

    state: int
    moments: int
    average: int
    base: int


def kept_bytes(shape: StepShape, mesh: Mesh, beside: Beside) -> Kept:
    """What lies on a device all the time."""
    state = abstract_state(shape.model, mesh, shape.optimizer)
    average = split(state.params, shape.model)[0] if beside.average else None
    base = as_base(state.params, shape.model) if shape.carries_base else None
    return Kept(*map(bytes_of_one, (state, state.opt_state, average, base)))


def other_peaks(
    shape: StepShape, mesh: Mesh, target: Target, beside: Beside, kept: Kept
) -> dict[str, int]:
    """Bytes of one device in a run's other programs, by program, with what lies there meanwhile.

    The moments, and a base that is carried, lie beside an evaluation and a gradient cosine, and so
    does an average of the parameters with what is measured of it; a population is alone but for its
    averages. 0 where one does not fit and the compiler does not say what it needs.
    """
    programs, (evaluation_batch, lanes, cosine, _) = [], beside
    moments = kept.moments + kept.average + kept.base
    if evaluation_batch is not None:
        measured = evaluation_shape(shape, mesh, batch_size=evaluation_batch)
        programs.append(("evaluation", lower_evaluation(measured, mesh), moments))
    if cosine:
        rows = shape.batch_size // shape.accumulation
        compared = evaluation_shape(shape, mesh, batch_size=rows)
        programs.append(("gradient cosine", lower_gradient_cosine(compared, mesh), moments))
    if lanes > 1:
        # Every lane is whole on its device.
        averages = beside.average * trained_bytes(shape.model) * lanes // len(target.devices)
        programs.append(("population", lower_population(shape, lanes, target.devices), averages))
    tried = [(name, compiled_or_peak(lowered, target)[1], more) for name, lowered, more in programs]
    return {name: peak + more if peak else 0 for name, peak, more in tried}


def host_bytes(mesh: Mesh, kept: Kept, peak: int) -> tuple[int, int | None]:
    """Bytes that the fullest process needs of its host, and what this machine has (None: another).

    A save copies the state of the process's devices; on CPU the `peak` of each is there as well.
    """
    owners, on_cpu = mesh_owners(mesh), platform_of(mesh) == "cpu"
    most = int(np.bincount(owners.reshape(-1)).max())
    memory = host_memory() if mesh.devices.flat[0] in jax.devices() else None
    return most * (kept.state + kept.average + on_cpu * peak), memory


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


def bytes_of_one(tree: Any) -> int:
    """Bytes that one device holds of abstract arrays with shardings (unpadded)."""
    leaves = jax.tree.leaves(tree)
    sizes = (math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    return sum(n * leaf.dtype.itemsize for n, leaf in zip(sizes, leaves, strict=True))


def _peak_bytes(compiled: jax.stages.Compiled) -> int:
    """Bytes of arguments, results that reuse none of them, and temporaries."""
    memory: Any = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return int(memory.argument_size_in_bytes + results + memory.temp_size_in_bytes)
