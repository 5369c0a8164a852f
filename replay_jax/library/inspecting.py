"""What this installation and this machine have, and what is missing for what."""

import importlib.metadata
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement

from replay_jax.data.sources.workers import available_cores
from replay_jax.sweep.store.environment import PACKAGES, processor, software

# The model of the quickstart on its batch: half a million parameters, 32 x 128 tokens.
SPEED_SHAPE, SPEED_SEQ_LEN, SPEED_BATCH = "128,352,2,4,4,1024", 128, 32
_SIDE, _PRODUCTS = 1024, 8


@dataclass(frozen=True)
class Machine:
    """What a sweep finds here.

    Attributes:
        versions: of Python and of the packages that decide results; "none" where one is missing.
        processor, cores: of this machine; cores are those that this process may use.
        memory_bytes: of the machine, None where the system does not say.
        disk_free_bytes: in the current folder.
        devices: JAX's own names of what it would train on, one for each.
        device_problem: why JAX finds no device, "" if it does.
        lacking: for every extra the requirements that are not met; none: it can be used.
    """

    versions: dict[str, str]
    processor: str
    cores: int
    memory_bytes: int | None
    disk_free_bytes: int
    devices: tuple[str, ...]
    device_problem: str
    lacking: dict[str, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """JSON object of `replay-jax doctor --json`."""
        return asdict(self)


def inspect() -> Machine:
    """Look at everything; starts JAX on its devices."""
    devices, problem = _devices()
    return Machine(
        versions={name: software()[name] for name in ("python", *PACKAGES)},
        processor=processor(),
        cores=available_cores(),
        memory_bytes=_memory(Path("/proc/meminfo")),
        disk_free_bytes=shutil.disk_usage(".").free,
        devices=devices,
        device_problem=problem,
        lacking=lacking(importlib.metadata.requires("replay-jax") or []),
    )


def device_memory() -> int | None:
    """Bytes of the first device that JAX would train on: an accelerator's own, or the machine's."""
    import jax

    try:
        device = jax.devices()[0]
    except RuntimeError:
        return None
    if device.platform == "cpu":
        return _memory(Path("/proc/meminfo"))
    said = device.memory_stats() or {}
    return int(said["bytes_limit"]) if "bytes_limit" in said else None


def lacking(requirements: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For every extra named in a package's requirements, those that are not met here."""
    asked = [Requirement(line) for line in requirements]
    named = [re.search(r'extra == ["\']([\w-]+)["\']', str(one.marker or "")) for one in asked]
    extras = sorted({match[1] for match in named if match is not None})
    # Once, what an extra asks for by two ways.
    return {extra: tuple(dict.fromkeys(_missing(asked, extra))) for extra in extras}


def _missing(asked: Sequence[Requirement], extra: str) -> Iterator[str]:
    """What lacks of the requirements that only this extra has, and of the extras that they name."""
    for one in asked:
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            continue  # of the package itself
        if not one.marker.evaluate({"extra": extra}):
            continue
        try:
            installed = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{one.name} is not installed"
            continue
        if not one.specifier.contains(installed, prereleases=True):
            yield f"{one.name} is {installed}, not {one.specifier}"
        further = [Requirement(line) for line in importlib.metadata.requires(one.name) or ()]
        for inner in sorted(one.extras):
            yield from _missing(further, inner)


def tokens_per_second() -> float:
    """How fast the quickstart's model trains on one device, in some ten seconds."""
    from replay_jax.compile.bench import bench
    from replay_jax.config.defaults import sized_model

    model = sized_model(SPEED_SHAPE)
    return bench(model, seq_len=SPEED_SEQ_LEN, batch_size=SPEED_BATCH).tokens_per_second


def matmul_rate() -> float:
    """FLOP per second of a square product in float32 on all cores, were nothing else running.

    The best of several in CPU seconds: by the clock a machine with ten jobs seemed a fifteenth of
    itself.
    """
    left = np.ones((_SIDE, _SIDE), np.float32)
    seconds = []
    for _ in range(_PRODUCTS):
        start = time.process_time()
        left @ left
        seconds.append(time.process_time() - start)
    return 2 * _SIDE**3 * available_cores() / min(seconds)


def _devices() -> tuple[tuple[str, ...], str]:
    import jax

    try:
        return tuple(f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()), ""
    except RuntimeError as error:
        return (), str(error).split("\n")[0]


def _memory(information: Path) -> int | None:
    if not information.exists():
        return None
    match = re.search(r"^MemTotal:\s+(\d+) kB", information.read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else None
