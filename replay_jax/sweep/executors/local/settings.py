"""What XLA, JAX and the C library read when a process that trains is started."""

from collections.abc import Mapping

from etils import epath

from replay_jax.sweep.executors.local.choice import WorkerChoice
from replay_jax.training.mesh.devices import ENVIRONMENT

# glibc gives XLA's temporaries back after every step and faults them in again, a quarter of a small
# model's step. Kept in huge pages instead, a step of the quickstart took 0.78 of the time (one
# thread) and one of 8 layers x 256 took 0.91 (two threads); the numbers are the same
# (docs/performance.md). Freed small pieces are merged at once instead of cached, or one of them
# beside the freed temporaries would send the next step's to a new place, which is kept as well.
# Other C libraries ignore these names.
CPU_ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


def jax_settings(root: epath.PathLike, threads: int) -> dict[str, str]:
    """What XLA and JAX read when a process starts: threads, and where compiled programs are shared.

    NPROC is what XLA sizes the CPU client's thread pools by (xla/pjrt/utils.cc); measured with
    jaxlib 0.10.2, it gives the same bits as binding the process to that many cores, without
    keeping the system from moving it.
    """
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(epath.Path(root) / "compilation"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **ENVIRONMENT,
    }
    return {**settings, **CPU_ALLOCATOR, "NPROC": str(threads)} if threads else settings


def worker_environment(
    root: epath.PathLike, choice: WorkerChoice, place: int, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the worker in a place, 0 to `choice.workers` - 1.

    What the user set goes before, but for the threads, which decide the bits, and for the devices,
    which no two workers may share.
    """
    settings = jax_settings(root, choice.threads)
    own = {"NPROC": settings["NPROC"]} if choice.threads else {}
    if choice.devices:
        own |= {
            "CUDA_VISIBLE_DEVICES": choice.devices[place],
            # It picked from the list of all, and has done so.
            "JAX_CUDA_VISIBLE_DEVICES": "all",
        }
    return {**settings, **inherited, **own}
