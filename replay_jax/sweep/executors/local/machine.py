"""What this machine has to train on, found out without starting JAX in this process."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping

from replay_jax.training.mesh.devices import ENVIRONMENT, no_devices

# What JAX names its platform, and the bytes that it may take of every device (0: it does not say).
_QUESTION = """
import json, jax
limits = [dict(device.memory_stats() or {}) for device in jax.local_devices()]
print(json.dumps([jax.default_backend(), [limit.get("bytes_limit", 0) for limit in limits]]))
"""


@dataclasses.dataclass(frozen=True)
class Devices:
    """What JAX trains on here.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        names: of the GPUs, as CUDA_VISIBLE_DEVICES takes them; () on other platforms.
        memory_bytes: that JAX may take of the smallest device; 0 where it does not say.
    """

    platform: str
    names: tuple[str, ...] = ()
    memory_bytes: int = 0


def local_devices() -> Devices:
    """The devices that JAX will use here, found out without starting it in this process.

    A process that starts JAX takes the accelerators, which the worker is to have.

    Raises:
        UserError: JAX does not start, as where another process holds the accelerators.
    """
    named = os.environ["JAX_PLATFORMS"] if "JAX_PLATFORMS" in os.environ else ""
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if named == "cpu" or not (named or plugins or importlib.util.find_spec("libtpu")):
        return Devices("cpu")
    asked = subprocess.run(
        [sys.executable, "-c", _QUESTION],
        capture_output=True,
        text=True,
        check=False,
        # As a worker is started, but without taking the memory.
        env={**ENVIRONMENT, **os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
    )
    answer = asked.stdout.strip()
    if asked.returncode or not answer:
        raise no_devices(named, asked.stderr.strip().split("\n")[-1])
    platform, limits = json.loads(answer.split("\n")[-1])
    names = cuda_names(len(limits), os.environ) if platform == "gpu" else ()
    return Devices(platform, names, min(limits))


def cuda_names(count: int, environment: Mapping[str, str]) -> tuple[str, ...]:
    """What CUDA calls the `count` GPUs that JAX sees; () if what the user has set tells others.

    CUDA_VISIBLE_DEVICES lists GPUs by number or by name and ends at the first that does not exist;
    JAX_CUDA_VISIBLE_DEVICES picks from that list, by place.
    """
    picked = list(range(count))
    if environment.get("JAX_CUDA_VISIBLE_DEVICES", "all") != "all":
        picked = [int(place) for place in environment["JAX_CUDA_VISIBLE_DEVICES"].split(",")]
    if "CUDA_VISIBLE_DEVICES" in environment:
        listed = [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",")]
    else:
        listed = [str(number) for number in range(max(picked) + 1)]
    shown = [listed[place] for place in picked if place < len(listed)]
    return tuple(shown) if len(shown) == count else ()


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
