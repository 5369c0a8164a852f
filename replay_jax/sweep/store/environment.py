"""What a state came out of beside its configuration: code, versions, settings and machine.

Equal runs give equal bits only where these are equal. The process that trains writes them down as
one fact, named by its digest in every span and evaluation that it leaves.
"""

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from replay_jax.sweep.plan.digest import canonical_digest

Facts = dict[str, str]
# "software" is known to any process of an installation, "machine" to the process that trains.
Environment = dict[str, Facts]

PACKAGES = (
    "replay-jax", "jax", "jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin",
    "nvidia-cudnn-cu12", "nvidia-cudnn-cu13", "flax", "optax", "orbax-checkpoint", "grain",
    "numpy", "tokenizers",
)  # fmt: skip
# Of these, what only a machine with an accelerator has.
_ACCELERATORS = re.compile(r"libtpu|jax-cuda\d+-plugin|nvidia-.*")
# The rooms that decide a number of a result.
_COMPUTING = ("schedule", "data", "model", "hub", "training", "sweep/plan", "sweep/train")
_PACKAGE = Path(__file__).parents[2]
# Said by the number of devices.
_FAKE_DEVICES = re.compile(r"--xla_force_host_platform_device_count=\S+")


@functools.cache
def software() -> Facts:
    """The code and the versions of this installation; "none" for what is not installed."""
    versions = {name: _version(name) for name in PACKAGES}
    return {"code": _code_digest(), "python": platform.python_version(), **versions}


def anywhere(facts: Facts) -> Facts:
    """The part of `software` that a machine without accelerators has as one with them has it."""
    return {name: value for name, value in facts.items() if not _ACCELERATORS.fullmatch(name)}


def compiler_flags() -> str:
    """What the environment tells XLA and libtpu, in order, less what other facts say."""
    named = (os.environ[name] for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS") if name in os.environ)
    return " ".join(sorted(_FAKE_DEVICES.sub("", " ".join(named)).split()))


def processor() -> str:
    """Model of this machine's processor, as the system names it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def environment_digest(environment: Environment) -> str:
    """32 hex digits by which an environment is named."""
    return canonical_digest(environment).hex()


def differences(known: Mapping[str, Facts], here: Mapping[str, Facts]) -> list[str]:
    """What differs between two environments, in words; parts that only one has are not compared."""
    found = []
    for part in known.keys() & here.keys():
        for name in sorted(known[part].keys() | here[part].keys()):
            was, now = (facts.get(name, "none") for facts in (known[part], here[part]))
            if was != now:
                found.append(f"{name} {was or 'none'} there and {now or 'none'} here")
    return sorted(found)


def refusal(where: str, known: Iterable[Environment], here: Mapping[str, Facts]) -> str | None:
    """Why one must not train here, in a sentence; None if some known environment is this one.

    Args:
        where: the working directory.
        known: what its results came out of; none for a new directory.
        here: the environment of this process, or the part of it that is known.
    """
    compared = [differences(environment, here) for environment in known]
    if not compared or not all(compared):
        return None
    nearest = min(compared, key=len)
    return (
        f"{where} holds results of another environment ({'; '.join(nearest)}): train in that one, "
        "choose another --workdir, or add --accept_environment to go on and have both named"
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _code_digest() -> str:
    """16 hex digits of the source files of the rooms that compute."""
    digest = hashlib.sha256()
    for room in _COMPUTING:
        for path in sorted((_PACKAGE / room).rglob("*.py")):
            digest.update(f"{path.relative_to(_PACKAGE).as_posix()}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
