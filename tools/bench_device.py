"""All that is to be measured on a GPU or TPU, in one command: `python tools/bench_device.py`.

    quickstart   the README's main job, by the clock
    steps        the train step of 150m and 1_4b in bfloat16, 4,096 tokens, document masks:
                 tokens/s, share of the chip's dense peak, a profile, read and kept, and the
                 time without masks, which says what a kernel for packed rows could save
    population   models of the quickstart's size side by side against one after another
    identity     a run alone against one that begins from a shared, saved prefix: the same bits

Prints a markdown table. `--into=docs/performance_gpu.md` (or _tpu.md) writes it there, under a
heading with the device's name, in place of an earlier one of that device. `--only=steps,identity`
measures parts; `--tiny` is for trying the tool where there is no accelerator.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np

from replay_jax.compile.bench import bench_population, prepare_step, random_batch
from replay_jax.compile.peak import known_peak, matmul_peak
from replay_jax.config.defaults import sized_model
from replay_jax.model.architecture import ModelConfig
from replay_jax.model.flops import flops_per_token
from replay_jax.model.presets import scanned
from replay_jax.training.config import OptimizerConfig, StepShape
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.devices import attached_devices
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.optimizer import hyperparameters
from replay_jax.training.saving.checkpoint import Checkpointer, restore_state
from replay_jax.training.step import (
    abstract_state,
    compile_init,
    compile_train_step,
    place_batch,
    place_hyper,
)

ROOT = Path(__file__).parents[1]
_TINY = "32,64,1,2,1,64"


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, and what came out."""

    what: str
    found: str


def quickstart(tiny: bool, _: Path) -> list[Row]:
    """Run the README's job (tiny: the smoke test) in a process of its own."""
    recipe = "configs/smoke.py" if tiny else "configs/quickstart.py"
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "replay_jax", "run", recipe, f"--workdir={workdir}/runs"]
        began = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return [Row(f"`replay-jax run {recipe}`", f"{time.perf_counter() - began:.0f} s")]


def steps(tiny: bool, profiles: Path) -> list[Row]:
    """Time the train steps, with as many rows at once as fit, and read a profile of each."""
    rows = []
    for name in (_TINY,) if tiny else ("150m", "1_4b"):
        model, length = sized_model(name), 64 if tiny else 4096
        if not tiny:
            model = dataclasses.replace(model, compute_dtype="bfloat16", max_seq_len=4096)
        if name == "1_4b":
            model = dataclasses.replace(scanned(model), remat="matmuls")
        shape, step = _largest_step(model, length, rows=4 if tiny else 64)
        seconds = _median_seconds(step)
        rate, peak = shape.batch_size * length / seconds, _peak(model)
        with jax.profiler.trace(str(profiles / name)):
            step.seconds(3)
        shares = [
            f"{rate * flops_per_token(model, length, causal_half=half).total / peak:.1%}"
            for half in (False, True)
        ]
        rows.append(
            Row(
                f"{name}, {shape.batch_size} x {length}, {model.compute_dtype}, document masks, "
                f"rematerialisation {model.remat}",
                f"{rate:,.0f} tokens/s, MFU {shares[0]} ({shares[1]} with attention halved), "
                f"{1e3 * seconds:.4g} ms, compiled in {step.compile_seconds:.0f} s",
            )
        )
        rows.append(Row("longest there", "; ".join(longest_operations(profiles / name))))
        del step  # its state has the device's memory
        bare = _median_seconds(prepare_step(dataclasses.replace(shape, document_mask=False)))
        rows.append(Row("the same without masks", f"{bare / seconds:.2f} of the time"))
    return rows


def population(tiny: bool, _: Path) -> list[Row]:
    """Time populations of small models."""
    sizes, length, batch = (_TINY, 16, 2) if tiny else ("128,352,2,4,4,1024", 128, 32)
    rows = []
    for lanes in (2,) if tiny else (2, 4, 8, 16, 32):
        found = bench_population(sized_model(sizes), seq_len=length, batch_size=batch, lanes=lanes)
        rows.append(
            Row(
                f"population of {lanes}, {sizes}, {batch} x {length}",
                f"{found.run_tokens_per_second:,.0f} runs x tokens/s, {found.speedup:.2f} times "
                "one after another",
            )
        )
    return rows


def identity(tiny: bool, _: Path) -> list[Row]:
    """Train alone twice, and once from a prefix that was saved and read again."""
    model = sized_model(_TINY if tiny else "128,352,2,4,4,1024")
    batch, length, updates = (4, 64, 4) if tiny else (32, 128, 40)
    model = dataclasses.replace(model, compute_dtype="float32" if tiny else "bfloat16")
    shape = StepShape(model, batch, length, 2, document_mask=True)
    mesh = make_mesh(MeshConfig(1, 1, 1), attached_devices()[:1])
    init, step = compile_init(model, mesh), compile_train_step(shape, mesh)
    hyper = place_hyper(hyperparameters(OptimizerConfig(), 1e-3), mesh)

    def train(state: Any, seeds: range) -> Any:
        for seed in seeds:
            state, _ = step(state, place_batch(random_batch(shape, seed), mesh), hyper)
        return state

    alone, again = (digest(train(init(0), range(updates))) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        with Checkpointer() as checkpointer:
            checkpointer.save(Path(folder) / "state", train(init(0), range(updates // 2)), {})
        prefix, _ = restore_state(Path(folder) / "state", abstract_state(model, mesh))
    shared = digest(train(prefix, range(updates // 2, updates)))
    same = "the same bits" if alone == again == shared else "NOT the same bits"
    what = f"{updates} updates alone, again, and from a saved prefix, {model.compute_dtype}"
    return [Row(what, same)]


PARTS: dict[str, Callable[[bool, Path], list[Row]]] = {
    "quickstart": quickstart,
    "steps": steps,
    "population": population,
    "identity": identity,
}


def _largest_step(model: ModelConfig, length: int, *, rows: int) -> tuple[StepShape, Any]:
    """The step with the most of `rows` at once that the device has memory for, and has run once."""
    while True:
        shape = StepShape(model, rows, length, sources=2, document_mask=True)
        try:
            step = prepare_step(shape)
            step.seconds(1)
            return shape, step
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or rows == 1:
                raise
            rows //= 2


def _median_seconds(step: Any) -> float:
    """Seconds of an update: the median of five pairs, after one."""
    step.seconds(2)
    return float(np.median([step.seconds(2) for _ in range(5)]))


def _peak(model: ModelConfig) -> float:
    """Dense peak of the chip by its data sheet, or of a matrix product measured here."""
    return known_peak(jax.devices()[0].device_kind) or matmul_peak(model.compute_dtype, repeats=3)


def longest_operations(folder: Path, count: int = 6) -> list[str]:
    """What took longest in a profile, by name, with its share of all that its devices did."""
    (file,) = folder.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e.get("name") == "process_name"}
    devices = {pid for pid, name in names.items() if "/device:" in name} or set(names)
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("ph") == "X" and event["pid"] in devices and "hlo_op" in event.get("args", {}):
            spent[re.sub(r"[.\d]+$", "", event["name"])] += event["dur"]
    for loop in ("while", "call", "conditional"):  # what they hold is counted by itself
        del spent[loop]
    total = max(1, spent.total())
    return [f"{name} {seconds / total:.0%}" for name, seconds in spent.most_common(count)]


def digest(state: Any) -> str:
    """A hash of every bit of a state."""
    hashed = hashlib.sha256()
    for leaf in jax.tree.leaves(state):
        hashed.update(np.asarray(leaf).tobytes())
    return hashed.hexdigest()


def table(rows: Sequence[Row]) -> str:
    """The section with its heading: device, versions and day."""
    device = jax.devices()[0]
    lines = [
        f"## Measured: {jax.device_count()} x {device.device_kind}",
        "",
        f"`python tools/bench_device.py`, jax {jax.__version__}, {date.today()}. MFU is of "
        "the dense peak of one chip.",
        "",
        "| what | found |",
        "|---|---|",
        *(f"| {row.what} | {row.found} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def write_into(page: Path, section: str) -> None:
    """Replace the section of the same heading in a page, or add it at the end."""
    heading, text = section.split("\n")[0], page.read_text()
    old = re.search(rf"^{re.escape(heading)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    before, after = (text[: old.start()], text[old.end() :]) if old else (text + "\n", "")
    page.write_text(before + section + ("\n" + after if after else ""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--into", type=Path, help="a page that gets the table")
    parser.add_argument("--profiles", type=Path, help="where profiles are kept")
    parser.add_argument("--tiny", action="store_true", help="sizes for trying the tool")
    given = parser.parse_args(arguments)
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    profiles = given.profiles or Path(tempfile.mkdtemp(prefix="profiles-"))
    # The quickstart first, in its own process: this one would hold the device.
    rows = [row for name in PARTS if name in parts for row in PARTS[name](given.tiny, profiles)]
    section = table(rows)
    print(section)
    print(f"profiles for xprof: {profiles}", file=sys.stderr)
    if given.into:
        write_into(given.into, section)


if __name__ == "__main__":
    main()
