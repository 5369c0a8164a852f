"""Disturb small sweeps in every way and compare them with one that nobody disturbed.

    python tools/torture.py --hours=1 --seed=1 --folder=runs/torture
    python tools/torture.py --faults=kill --trials=20 --seed=7

A trial makes one fault happen in one sweep (`FAULTS`, each told by its docstring), gives the same
command again until all is done, and compares: results must be those of the undisturbed sweep to the
last bit and `verify` content; a refusal must be one sentence that names what is wrong, and doing
what it says must mend it. All else is a finding: a line in FOLDER/findings.jsonl, with the working
directory kept beside it. Seed, fault and number decide a trial, up to the instants at which
processes happen to be where they are.

Faults take turns until each had --trials or --hours are over. FOLDER/tally.jsonl has a line per
trial, and a repeated call goes on from there. Prints a line per fault; ends with 1 if there is any
finding. Needs the extra "test"; full and read-only disks and networks need root, "lost_node" Ray.
"""

import argparse
import collections
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Some sweeps are trained in this process, as a worker with one thread trains them.
os.environ["NPROC"] = "1"

NAMES = (
    "damaged_file", "damaged_store", "kill", "stop", "two", "full_disk", "read_only",
    "read_only_stores", "compiled", "kill_lanes", "lost_hosts", "lost_node",
)  # fmt: skip
# Minutes each, so only when they are asked for.
_SLOW = ("kill_lanes", "lost_hosts", "lost_node")


def main() -> None:
    """Torture what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=1.0, help="for all faults together")
    parser.add_argument("--trials", type=int, default=1_000_000, help="of each fault, in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", help=f"some of {','.join(NAMES)} (default: the quick ones)")
    parser.add_argument("--folder", default="runs/torture", help="tally and findings")
    asked = parser.parse_args()
    quick = [name for name in NAMES if name not in _SLOW]
    names = asked.faults.split(",") if asked.faults else quick
    folder = Path(asked.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "programs"))
    with tempfile.TemporaryDirectory() as place:
        trials = _trials(names, Path(place))
        _take_turns(trials, Path(place), folder, asked)
    tally = known(folder, asked.seed)
    for name in names:
        print(json.dumps({"fault": name, "seed": asked.seed, **summary(tally, name)}))
    sys.exit(any(line["outcome"] == "wrong" for line in tally))


def _trials(names: Sequence[str], place: Path) -> dict[str, Callable[[random.Random], str]]:
    """A trial of every fault: takes chance, gives the outcome in words, or raises."""
    import torture_faults
    import torture_files
    import torture_hosts
    import torture_places
    from torture_arena import make_arena

    modules = (torture_faults, torture_files, torture_hosts, torture_places)
    found = {name: getattr(m, name) for m in modules for name in names if hasattr(m, name)}
    if unknown := set(names) - set(found):
        raise SystemExit(f"unknown faults {sorted(unknown)}: there are {', '.join(NAMES)}")
    arena = make_arena(place)
    return {name: lambda chance, f=found[name]: f(arena, chance) for name in names}


def _take_turns(
    trials: Mapping[str, Callable[[random.Random], str]],
    place: Path,
    folder: Path,
    asked: argparse.Namespace,
) -> None:
    ends = time.monotonic() + 3600 * asked.hours
    done = collections.Counter(line["fault"] for line in known(folder, asked.seed))
    spent = dict.fromkeys(trials, 0.0)
    while left := [name for name in trials if done[name] < asked.trials]:
        # The fault that had least time so far, so that quick ones have many trials.
        name = min(left, key=lambda name: spent[name])
        if time.monotonic() > ends:
            return
        began = time.monotonic()
        line = one_trial(name, trials[name], done[name], asked.seed, place, folder)
        spent[name] += time.monotonic() - began
        done[name] += 1
        with (folder / "tally.jsonl").open("a") as file:
            file.write(json.dumps({**line, "seconds": round(spent[name], 1)}) + "\n")


def one_trial(
    name: str,
    trial: Callable[[random.Random], str],
    number: int,
    seed: int,
    place: Path,
    folder: Path,
) -> dict[str, Any]:
    """A trial's line of the tally; what is wrong is kept as a finding."""
    line: dict[str, Any] = {"fault": name, "seed": seed, "number": number}
    try:
        return {
            **line,
            "outcome": "right",
            "words": trial(random.Random(f"{seed} {name} {number}")),
        }
    except Exception as error:
        why = "".join(traceback.format_exception(error))
    with (folder / "findings.jsonl").open("a") as file:
        file.write(json.dumps({**line, "why": why}) + "\n")
    if (place / "trial").exists():
        kept = folder / "findings" / f"{name}-{seed}-{number}"
        shutil.copytree(place / "trial", kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    return {**line, "outcome": "wrong", "words": why.strip().split("\n")[-1][:300]}


def known(folder: Path, seed: int) -> list[dict[str, Any]]:
    """The lines of a seed so far."""
    path = folder / "tally.jsonl"
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else ())
    return [line for line in lines if line["seed"] == seed]


def summary(tally: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Tries, findings, and how often what was said of a fault."""
    own = [line for line in tally if line["fault"] == name]
    words = collections.Counter(line["words"].rsplit(": ", 1)[-1] for line in own)
    wrong = sum(line["outcome"] == "wrong" for line in own)
    return {"tries": len(own), "wrong": wrong, "outcomes": dict(words.most_common(8))}


if __name__ == "__main__":
    main()
