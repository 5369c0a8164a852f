"""How long a model folder takes to import, beside reading its files, in one process.

    python tools/bench_import.py runs/bench_import --rounds=3
    python tools/bench_import.py runs/bench_import --rounds=3 --cold

Writes a made-up Llama of zeros in bfloat16, in several files, unless the folder is there (delete it
afterwards: 2.2 GB by default), and reads it in turns: every file into memory as bytes, every tensor
as it is in the files, and the import into float32 parameters, unrolled and scanned. With `--cold`
the system is asked before each turn to forget the files. Medians, by the clock and in CPU seconds
of this process, which other work disturbs less.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file

from replay_jax.config.defaults import sized_model
from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.hub.export import write_model_folder
from replay_jax.hub.folder import Pretrained, weight_files
from replay_jax.hub.weights import load_params
from replay_jax.model.architecture import ModelConfig, parameter_counts
from replay_jax.training.mesh.config import MeshConfig
from replay_jax.training.mesh.sharding import make_mesh
from replay_jax.training.step import abstract_state


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="of the model; written if it is not there")
    parser.add_argument("--shape", default="2048,5632,22,32,4,32000", help="D,F,L,H,KV,VOCAB")
    parser.add_argument("--shard_bytes", type=int, default=5 * 10**8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="the files are not in memory before")
    given = parser.parse_args()
    model = dataclasses.replace(sized_model(given.shape), layer_loop="unroll")
    if not given.folder.exists():
        write(given.folder, model, given.shard_bytes)
    files = weight_files(given.folder)
    ways: dict[str, Callable[[], Any]] = {
        "bytes": lambda: [np.fromfile(path, np.uint8) for path in files],
        "tensors": lambda: [load_file(path) for path in files],
        "import": lambda: imported(given.folder, model),
        "import scanned": lambda: imported(
            given.folder, dataclasses.replace(model, layer_loop="scan")
        ),
    }
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            if given.cold:
                forget(files)
            spent[name].append(measured(way))
    print(json.dumps({"parameters": parameter_counts(model).total, **summary(spent)}, indent=1))


def write(folder: Path, model: ModelConfig, shard_bytes: int) -> None:
    """A model of zeros: what is read is as much as of any other."""
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    like = abstract_state(model, mesh).params
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    given: dict[str, Any] = {"dtype": "bfloat16", "facts": {}, "shard_bytes": shard_bytes}
    write_model_folder(folder, zeros, model, byte_tokenizer(), **given)


def imported(folder: Path, model: ModelConfig) -> Any:
    """The parameters on one device."""
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    place = Pretrained(str(folder), str(folder), fingerprint="")
    return jax.block_until_ready(load_params(place, abstract_state(model, mesh).params, model))


def forget(files: list[Path]) -> None:
    """Ask the system to drop what it has of the files in memory."""
    for path in files:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measured(way: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = way()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    del found
    return spent


def summary(spent: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Medians, and what the import takes beside each way of reading."""
    found = {}
    for number, clock in enumerate(("wall", "CPU")):
        medians = {name: statistics.median(s[number] for s in all_) for name, all_ in spent.items()}
        found |= {f"{name}, {clock} s": round(value, 3) for name, value in medians.items()}
        for way in ("import", "import scanned"):
            for read in ("bytes", "tensors"):
                ratio = medians[way] / medians[read]
                found[f"{way} / {read}, {clock}"] = round(ratio, 2)
    return found


if __name__ == "__main__":
    main()
