"""Give every reader of the package damaged inputs: it must answer, or refuse in one sentence.

    python tools/fuzz.py --inputs=1000000 --seconds=600 --seed=1 --reader=manifests

Inputs are valid ones (fuzz_readers.py) with damage that is drawn (fuzz_mutations.py); the same
seed, reader and number give the same input. A reader passes if it returns or raises `UserError`
with one line, in --limit seconds (12 times that while it computes nothing) and with at most 2 GiB
more memory than it began with. All else is a finding: the input and a line with its number, seed
and traceback go to FOLDER/findings, and `--first=NUMBER --inputs=1` replays it. Batches run in
processes that are forked, so that neither a crash nor a hang ends this one.

Counts are kept in FOLDER/counts.jsonl, the last line of a reader and seed counts, and a repeated
call goes on from there. Readers take turns until each had --inputs or --seconds are over. Prints a
line per reader; ends with 1 if there is any finding. Needs the extra "test".
"""

import argparse
import dataclasses
import json
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

_SUPPORT = Path(__file__).parents[1] / "tests" / "support"
sys.path[:0] = [str(_SUPPORT), str(_SUPPORT / "stand_ins")]
os.environ["JAX_PLATFORMS"] = "cpu"

from fuzz_mutations import mutated  # noqa: E402
from fuzz_readers import Reader, make_readers  # noqa: E402

from replay_jax.errors import UserError  # noqa: E402

_MOST_BYTES = 2 << 30
# A process that does nothing is given so many times the limit.
_IDLE = 12
# What a batch tells: the number it is at, then how many were taken and how many refused.
_TOLD = struct.Struct("<qqq")


@dataclasses.dataclass
class Counts:
    """Of one reader and seed: inputs tried, of these taken and refused, and all else; CPU time."""

    reader: str
    seed: int
    inputs: int = 0
    taken: int = 0
    refused: int = 0
    findings: int = 0
    cpu_seconds: float = 0.0


def main() -> None:
    """Fuzz the readers that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="for each reader, in all")
    parser.add_argument("--seconds", type=float, default=600.0, help="for all readers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reader", help="one only, by name (default: all)")
    parser.add_argument("--folder", default="runs/fuzz", help="counts and findings")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for one input")
    parser.add_argument("--first", type=int, help="replay from this number; counts nothing")
    asked = parser.parse_args()
    folder = Path(asked.folder).absolute()
    warnings.simplefilter("ignore")
    (folder / "findings").mkdir(parents=True, exist_ok=True)
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=shared) as place:
        readers = make_readers(folder / "study", Path(place))
        if asked.reader:
            readers = {asked.reader: readers[asked.reader]}
        counts = {name: _known(folder, name, asked.seed) for name in readers}
        if asked.first is not None:
            counts = {name: Counts(name, asked.seed, asked.first) for name in readers}
        _take_turns(readers, counts, folder, asked)
    for each in counts.values():
        print(json.dumps(dataclasses.asdict(each)))
    sys.exit(any(each.findings for each in counts.values()))


def _take_turns(
    readers: dict[str, Reader], counts: dict[str, Counts], folder: Path, asked: argparse.Namespace
) -> None:
    """A batch of each reader in turn; the slow get smaller ones, so that all get alike time."""
    ends = time.monotonic() + asked.seconds
    last = asked.inputs + (asked.first or 0)
    sizes = dict.fromkeys(readers, 50)
    while left := [name for name in readers if counts[name].inputs < last]:
        for name in left:
            if time.monotonic() > ends:
                return
            began = time.monotonic()
            own = counts[name]
            _batch(readers[name], own, min(last, own.inputs + sizes[name]), folder, asked)
            took = time.monotonic() - began
            sizes[name] = max(20, min(20_000, int(sizes[name] * min(4.0, 2.0 / max(took, 0.1)))))
            if asked.first is None:
                with (folder / "counts.jsonl").open("a") as file:
                    file.write(json.dumps(dataclasses.asdict(own)) + "\n")


def _known(folder: Path, name: str, seed: int) -> Counts:
    """The last counts of a reader and seed."""
    found, path = Counts(name, seed), folder / "counts.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        counts = Counts(**json.loads(line))
        if (counts.reader, counts.seed) == (name, seed):
            found = counts
    return found


def inputs_of(reader: Reader, seed: int, first: int, last: int) -> Iterator[tuple[int, int, bytes]]:
    """Inputs [first, last) of a reader: their numbers, which valid one each was, and the bytes."""
    for number in range(first, last):
        chance = random.Random(f"{seed} {reader.name} {number}")
        which = chance.randrange(len(reader.valid))
        yield number, which, mutated(reader.valid[which], list(reader.valid), chance)


def _batch(
    reader: Reader, counts: Counts, last: int, folder: Path, asked: argparse.Namespace
) -> None:
    """Inputs up to `last`, in forked processes; after one that ends at an input comes another."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = mmap.mmap(-1, _TOLD.size)
    while counts.inputs < last:
        told[:] = _TOLD.pack(counts.inputs, 0, 0)
        child = os.fork()
        if not child:
            _in_the_child(reader, counts.inputs, last, told, folder, asked.seed)
        why = _watch(child, told, asked.limit)
        at, taken, refused = _TOLD.unpack(told[:])
        counts.taken, counts.refused = counts.taken + taken, counts.refused + refused
        if why:
            number, which, data = next(inputs_of(reader, asked.seed, at, at + 1))
            _write_finding(folder, reader, asked.seed, number, which, data, why)
            at += 1
        counts.findings += at - counts.inputs - taken - refused
        counts.inputs = at
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts.cpu_seconds += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _watch(child: int, told: mmap.mmap, limit: float) -> str:
    """Wait for a batch; returns how it ended where it was not by itself: a signal, or a hang."""
    at, since, spent = -1, time.monotonic(), 0.0
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return "" if status == 0 else f"the process ended with status {status}"
        now = _TOLD.unpack(told[:])[0]
        if now != at:
            at, since, spent = now, time.monotonic(), _cpu_seconds(child)
        waited = time.monotonic() - since
        # On a machine that has much else to do, time that passes is no hang.
        if waited > _IDLE * limit or (waited > limit and _cpu_seconds(child) - spent > limit / 2):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"no answer after {limit:g} s"
        time.sleep(0.005)


def _cpu_seconds(pid: int) -> float:
    """What a process that was not waited for has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _in_the_child(
    reader: Reader, first: int, last: int, told: mmap.mmap, folder: Path, seed: int
) -> None:
    """Try inputs and tell of each; never returns."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_BYTES, used + _MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    taken = refused = 0
    for number, which, data in inputs_of(reader, seed, first, last):
        told[:] = _TOLD.pack(number, taken, refused)
        try:
            reader.read(which, data)
            taken += 1
        except UserError as error:
            if "\n" in str(error).strip():
                _write_finding(folder, reader, seed, number, which, data, f"lines: {error}")
            else:
                refused += 1
        except BaseException:
            why = traceback.format_exc()
            _write_finding(folder, reader, seed, number, which, data, why)
        told[:] = _TOLD.pack(number + 1, taken, refused)
    os._exit(0)


def _write_finding(
    folder: Path, reader: Reader, seed: int, number: int, which: int, data: bytes, why: str
) -> None:
    """Keep an input and what it did."""
    name = f"{reader.name}-{seed}-{number}"
    line = {"reader": reader.name, "seed": seed, "number": number, "valid": which, "why": why}
    with (folder / "findings.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    (folder / "findings" / name).write_bytes(data)


if __name__ == "__main__":
    main()
