"""Bits that change without a new NUMERICS: results of two kinds of arithmetic under one name."""

from pathlib import Path

import jax
import pytest
from tiny_training import MODEL, digest, one_device, run

from replay_jax.training.numerics import NUMERICS
from replay_jax.training.step import compile_init

STEPS = 6
# Losses in nats per token of the first updates, the same everywhere but for rounding.
LOSSES = (4.17974042, 4.16871500, 4.18426132, 4.19576931, 4.20729351, 4.19459057)
# By NUMERICS, version of JAX, vendor and vectors of the processor: hashes of the state after them,
# of all models that were seen (with JAX 0.12 Intel's 207 and 85 round otherwise). Where a machine
# is not listed the losses are compared alone.
STATES = {
    (2, "0.10.2", "GenuineIntel avx512f"): (
        "7835af1413fd4e52707b32c3f587fe87ef387bd122152dbac0b287f762534ef3",
    ),
    (2, "0.12.0.1", "GenuineIntel avx512f"): (
        "17efea356975b839b2e60f1daf8ea62cecaef71c127313b4eb58541b1e3a7e3a",
        "64b222c83bc14696fda8224c6243e06e8e878b6ed3ac3599a3e2d60a1adca5dd",
    ),
}


def processor() -> str:
    """Vendor, and the widest vectors that XLA compiles for."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    known = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    flags = known.get("flags", "").split()
    vectors = next((name for name in ("avx512f", "avx2") if name in flags), "none")
    return f"{known.get('vendor_id', 'unknown')} {vectors}"


@pytest.fixture(scope="module")
def trained():
    mesh, _, step = one_device()
    with pytest.MonkeyPatch.context() as patch:
        # A fresh state is compiled as it is for a user, who sets no level.
        patch.delenv("XLA_FLAGS")
        init = compile_init(MODEL, mesh)
    return run(step, init(0), mesh, range(STEPS))


def test_losses_are_those_of_this_arithmetic(trained):
    _, seen = trained
    assert [loss for loss, _ in seen] == pytest.approx(LOSSES, rel=1e-5)


def test_no_bit_changes_without_a_new_number(trained):
    """A change on purpose raises NUMERICS, and writes its own line here."""
    state, _ = trained
    place = (NUMERICS, jax.__version__, processor())
    if place not in STATES:
        assert NUMERICS in {number for number, *_ in STATES}, "no state of this NUMERICS is known"
        pytest.skip(f"the last bits of {place} are not known")
    assert digest(state) in STATES[place]
