"""The bench: consistent arithmetic on a real, tiny step. Nothing here depends on how fast."""

import pytest

from replay_jax.compile import peak
from replay_jax.compile.bench import bench, prepare_step
from replay_jax.compile.peak import known_peak, matmul_peak, process_peak
from replay_jax.errors import UserError
from replay_jax.model.flops import flops_per_token
from replay_jax.model.presets import shape_model
from replay_jax.training.config import StepShape

MODEL = shape_model("32,64,1,2,1,64")


@pytest.fixture(autouse=True)
def small_products(monkeypatch):
    """Of sides whose best rate takes milliseconds to find."""
    monkeypatch.setitem(peak._SIDES, "cpu", (256,))


def test_rates_are_consistent() -> None:
    result = bench(MODEL, seq_len=16, batch_size=2, rounds=1)
    assert result.tokens_per_second == pytest.approx(32 / result.seconds_per_step)
    assert result.flops_per_token == flops_per_token(MODEL, 16, causal_half=False).total
    assert result.causal_flops_per_token < result.flops_per_token
    for prefix in ("", "causal_"):
        rate = getattr(result, f"{prefix}flops_per_token") * result.tokens_per_second
        assert getattr(result, f"{prefix}flops_per_second") == pytest.approx(rate)
        share = getattr(result, f"{prefix}fraction_of_peak")
        assert share == pytest.approx(rate / result.peak_flops_per_second)
    # Parameters and two moments in float32, and two counts.
    parameters = 2 * 64 * 32 + 32 * 16 * (2 * 2 + 2 * 1) + 3 * 32 * 64 + 3 * 32
    assert result.state_bytes == 12 * parameters + 8


def test_a_step_that_holds_rows_to_a_base_keeps_it() -> None:
    """A step consumes its parameters: the base that it goes on from must be others."""
    step = prepare_step(StepShape(MODEL, 2, 16, sources=2, kl_sources=(0,)))
    assert step.seconds(2) > 0


def test_bad_requests() -> None:
    with pytest.raises(UserError, match="at least 1 round"):
        bench(MODEL, seq_len=16, batch_size=2, rounds=0)
    with pytest.raises(UserError, match="max_seq_len"):
        bench(MODEL, seq_len=MODEL.max_seq_len + 1, batch_size=1)


def test_peak_is_a_rate() -> None:
    assert matmul_peak(repeats=1) > 1e8


def test_peaks_of_accelerators_by_the_names_that_jax_gives_them():
    assert known_peak("TPU v4") == 275e12
    assert known_peak("TPU v5 lite") == 197e12
    assert known_peak("TPU v5p") == known_peak("TPU v5") == 459e12
    assert known_peak("TPU v6 lite") == 918e12
    assert known_peak("NVIDIA H100 80GB HBM3") == known_peak("NVIDIA H200") == 989e12
    assert known_peak("NVIDIA H100 PCIe") == 756e12
    assert known_peak("Something else") is known_peak("TPU v4 lite") is None


def test_the_peak_of_a_cpu_is_measured_once_and_shared_by_its_devices():
    assert 1e8 < process_peak("float32") < 1e14
    assert process_peak("float32") == process_peak("float32")
