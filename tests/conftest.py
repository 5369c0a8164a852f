"""Eight fake CPU devices and strict numerics for every test."""

import os

# Before any backend exists: a sharding test on one device would test nothing.
os.environ["JAX_PLATFORMS"] = "cpu"
# Compiling dominates the suite and the programs are tiny, so LLVM does not optimize. Only flags
# that the TPU compiler knows as well: it ends the process at any other.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    " --xla_backend_optimization_level=0"
).strip()

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session", autouse=True)
def eight_devices() -> None:
    """The suite is only meaningful on eight devices."""
    assert jax.device_count() == 8, f"expected 8 fake CPU devices, found {jax.device_count()}"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two small corpora and their configuration, for sweeps in workers with one device each."""
    from tiny_sweep import make_study, use_one_device

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", "")
        use_one_device(tmp_path_factory.getbasetemp().parent)
        yield make_study(tmp_path_factory.mktemp("corpora"))
