"""What this machine has to train on, found out without starting JAX in this process."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys

from replay_jax.errors import UserError


def local_platform() -> str:
    """The platform that JAX will use here, found out without starting it in this process.

    A process that starts JAX takes the accelerators, which the worker is to have.

    Raises:
        UserError: JAX does not start, as where another process holds the accelerators.
    """
    named = os.environ["JAX_PLATFORMS"] if "JAX_PLATFORMS" in os.environ else ""
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    if named == "cpu" or not (named or plugins or importlib.util.find_spec("libtpu")):
        return "cpu"
    asked = subprocess.run(
        [sys.executable, "-c", "import jax; print(jax.default_backend())"],
        capture_output=True,
        text=True,
        check=False,
    )
    platform = asked.stdout.strip()
    if asked.returncode or not platform:
        lines = asked.stderr.strip().split("\n")
        setting = f"JAX_PLATFORMS={named}" if named else "JAX_PLATFORMS is not set"
        raise UserError(
            f"JAX finds no devices here ({setting}): {lines[-1]}; set JAX_PLATFORMS to a platform "
            "that is there, such as cpu"
        )
    return platform


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
