"""Kill a small sweep many times and compare it with one that nobody disturbed.

    python tools/torture.py --kills=20 --seed=7 --population=1

The suite does the same with a handful of kills (tests/sweep/drive/test_crash.py), which spares it
minutes. Coordinators and workers get kill -9 while they train, save, start and recover; results,
ledgers and the working directory must be those of the undisturbed sweep, to the last bit. Prints
what was done; ends with an error at the first difference. Needs the extra "test".
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
os.environ["JAX_PLATFORMS"] = "cpu"


def main() -> None:
    """Torture a sweep of four runs of 60 steps."""
    from killing import SWEEP, killed_and_whole_agree
    from tiny_sweep import make_study

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="how often (default: 20)")
    parser.add_argument("--seed", type=int, default=7, help="of the moments (default: 7)")
    parser.add_argument("--population", type=int, default=1, help="lanes of a worker (default: 1)")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(folder, "programs")))
        study = make_study(Path(folder))
        killed_and_whole_agree(study, Path(folder), **vars(asked))
    print(
        f"{len(SWEEP)} runs, killed {asked.kills} times (seed {asked.seed}): the results of a "
        f"sweep that was left alone; {time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
