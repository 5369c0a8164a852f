"""The rows of docs/performance_tpu.md that have a command: compiled again, they still hold."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from places import ROOT

PAGE = "docs/performance_tpu.md"
# Share by which a number may differ from the page, and whether less of it is better.
HELD = {
    "peak_bytes_per_device": (0.02, True),
    "roofline_seconds": (0.01, True),
    "mfu_estimate": (0.01, False),
    "mfu_estimate_causal": (0.01, False),
}


def documented_rows() -> dict[str, dict[str, float]]:
    """What the page says, by command: the fields of HELD as `compile --json` counts them."""
    rows = re.findall(
        r"^\|.*\| `replay-jax (compile [^`]+ --json)`"
        r" \| ([\d.]+) GiB\b.* \| \**([\d.]+) %\** \(([\d.]+) %\) \| ([\d.]+) ms\b.*\|$",
        (ROOT / PAGE).read_text(),
        re.MULTILINE,
    )
    return {
        command: {
            "peak_bytes_per_device": float(peak) * 2**30,
            "roofline_seconds": float(step) / 1e3,
            "mfu_estimate": float(full) / 1e2,
            "mfu_estimate_causal": float(halved) / 1e2,
        }
        for command, peak, full, halved, step in rows
    }


ROWS = documented_rows()


def drift(said: dict[str, float], found: dict[str, float]) -> list[str]:
    """One sentence for every number that left its row, to the worse or to the better."""
    sentences = []
    for field, (tolerance, less_is_better) in HELD.items():
        change = found[field] / said[field] - 1
        if abs(change) > tolerance:
            better = (change < 0) == less_is_better
            verdict = f"better: renew the row in {PAGE}" if better else "worse"
            sentences.append(
                f"{field} is {found[field]:.5g}, {change:+.1%} off the {said[field]:.5g} "
                f"of {PAGE}, which is {verdict}"
            )
    return sentences


def test_the_page_has_its_rows():
    """A row that is written in another way would not be compiled, and nothing would say so."""
    assert [re.findall(r"compile (paper/\w+) .*--topology=(\S+)", command) for command in ROWS] == [
        [("paper/mid_training_replay", "v4:4x4x4")],
        [("paper/basque_8b", "v4:4x4x4")],
        [("paper/basque_8b", "v5e:4x4")],
    ]


@pytest.mark.parametrize("field", HELD)
def test_drift_is_told_either_way(field):
    said = next(iter(ROWS.values()))
    tolerance, less_is_better = HELD[field]

    def told(change):
        return drift(said, said | {field: (1 + change) * said[field]})

    assert told(0.9 * tolerance) == told(-0.9 * tolerance) == []
    worse, better = (
        told(sign * 1.1 * tolerance) for sign in ((1, -1) if less_is_better else (-1, 1))
    )
    assert len(worse) == len(better) == 1
    assert worse[0].startswith(field) and worse[0].endswith("worse")
    assert better[0].startswith(field) and "better: renew the row" in better[0]


@pytest.mark.parametrize("command", ROWS)
def test_a_row_still_holds(command):
    pytest.importorskip("libtpu", reason="libtpu is not installed (extra 'tpu')")
    # In a process of its own: the suite's XLA_FLAGS are read by the TPU compiler as well.
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    compiled = subprocess.run(
        [sys.executable, "-m", "replay_jax", *command.split()],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert compiled.returncode == 0, compiled.stderr[-2000:]
    found = json.loads(compiled.stdout)
    assert found["fits"] and found["loops_of_unknown_length"] == []
    told = drift(ROWS[command], found)
    here = ", ".join(f"{name} {version(name)}" for name in ("libtpu", "jax"))
    assert not told, "\n".join([*told, f"(compiled by {here}; the page says by which it was)"])
