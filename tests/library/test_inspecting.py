"""What an installation lacks, by extra; and the whole command on this machine."""

import json
from itertools import count
from types import SimpleNamespace

from replay_jax.commands.main import main
from replay_jax.library import inspecting
from replay_jax.library.inspecting import lacking, matmul_rate


def test_an_extra_lacks_what_is_missing_old_or_missing_inside():
    found = lacking(
        [
            "numpy>=1",
            "numpy>=1; extra == 'there'",
            "numpy>=999; extra == 'old'",
            "no-such-package>=1; extra == 'missing'",
            "jax[tpu]>=0.4; extra == 'inside'",
            "no-such-package; python_version < '3' and extra == 'elsewhere'",
        ]
    )
    assert found["there"] == found["elsewhere"] == ()
    assert found["missing"] == ("no-such-package is not installed",)
    assert found["old"][0].startswith("numpy is ") and found["old"][0].endswith("not >=999")
    try:
        import libtpu  # noqa: F401
    except ImportError:
        assert "libtpu is not installed" in found["inside"]


def test_doctor_tells_what_a_sweep_finds(capsys, monkeypatch):
    monkeypatch.setattr(inspecting, "tokens_per_second", lambda: 1234.0)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["devices"]) == 8 and found["tokens_per_second"] == 1234.0
    assert found["versions"]["jax"] != "none" and found["cores"] >= 1
    assert {"cuda", "ray", "tpu", "wandb"} <= set(found["lacking"])
    monkeypatch.setattr(inspecting, "_devices", lambda: ((), "Unable to initialize backend"))
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "none: Unable to initialize backend" in said
    assert ("pip install 'replay-jax[EXTRA]'" in said) == any(found["lacking"].values())


def test_the_speed_of_a_matrix_product_is_that_of_the_machine_alone(monkeypatch):
    """By the clock, which others stretch, ten jobs made a machine seem a fifteenth of itself."""
    alone, stretched = count(step=2), count(step=32)
    clock = SimpleNamespace(process_time=alone.__next__, perf_counter=stretched.__next__)
    monkeypatch.setattr(inspecting, "time", clock)
    monkeypatch.setattr(inspecting, "available_cores", lambda: 4)
    assert matmul_rate() == 4 * 2 * 1024**3 / 2
