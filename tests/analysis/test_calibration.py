"""tools/calibrate_intervals.py goes on where it was stopped, and counts nothing of other code."""

import json
import subprocess
import sys

from places import ROOT

TOOL = (sys.executable, str(ROOT / "tools" / "calibrate_intervals.py"))
ASKED = ("--part=tuning", "--scenario=null, seed", "--resamples=20", "--processes=1")


def calibrated(out, studies):
    command = (*TOOL, *ASKED, f"--studies={studies}", f"--out={out}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_interrupted_calibration_goes_on_and_other_code_is_not_counted(tmp_path):
    out = tmp_path / "lines.jsonl"
    calibrated(out, 2)
    first, second = out.read_text().splitlines()
    marked = json.dumps({**json.loads(first), "verdict": "kept"})
    foreign = json.dumps({**json.loads(second), "code": "another", "verdict": "of other code"})
    out.write_text(f"{marked}\n{foreign}\n{second[:40]}")  # and the second was torn
    (line,) = calibrated(out, 3)
    kept = out.read_text().splitlines()
    assert kept[:3] == [marked, foreign, second[:40]] and len(kept) == 5
    again = {json.loads(text)["draw"]: json.loads(text) for text in kept[3:]}
    assert {k: v for k, v in again[json.loads(second)["draw"]].items() if k != "seconds"} == {
        k: v for k, v in json.loads(second).items() if k != "seconds"
    }
    assert line["studies"] == 3 and line["part"] == "tuning"
    assert "kept" in line["verdicts"] and "of other code" not in line["verdicts"]
    assert 0 <= line["recommended gain"] <= 1
