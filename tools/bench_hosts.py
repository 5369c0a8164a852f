"""Measure how much sooner two hosts with a core each prepare two sources on a disk they share.

    python tools/bench_hosts.py [--repeats 5] [--json]

A host is a process that may use one core, started and with everything imported before the clock
runs. One and two take turns; printed are the medians by the clock and their ratio. Part of the
result are the shards that each made, so that it shows who worked. Needs two cores that nobody else
uses.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from replay_jax.data.sources.parts import read_documents
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens import shards
from replay_jax.data.tokens.bpe_training import sample_texts, train_bpe
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.prepare import prepare

GOAL = 1.9


def main() -> None:
    """Run the measurement and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5, help="alternations of one and two hosts")
    parser.add_argument("--copies", type=int, default=4, help="of the text, to make it long")
    parser.add_argument("--parts", type=int, default=32, help="that each source is cut into, about")
    parser.add_argument("--distributions", default="python,numpy,scipy,jax", help="whose text")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_text(folder, options.distributions, options.copies)
        seconds: dict[int, list[float]] = {1: [], 2: []}
        made: dict[int, list[list[int]]] = {1: [], 2: []}
        for repeat in range(options.repeats):
            for hosts in (1, 2):
                took, counts = timed(folder, f"stores-{repeat}-{hosts}", hosts,
                                     size // (2 * options.parts))  # fmt: skip
                seconds[hosts].append(took)
                made[hosts].append(counts)
    one, two = (statistics.median(seconds[hosts]) for hosts in (1, 2))
    result = {
        "megabytes": size / 1e6,
        "load_average": load,
        "seconds_of_one": one,
        "seconds_of_two": two,
        "times_faster": one / two,
        "shards_made_by_each": made[2],
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{size / 1e6:.1f} MB, load average {load:.1f}, medians of {options.repeats}")
    print(f"one host {one:.2f} s, two {two:.2f} s: {one / two:.2f} x (goal {GOAL})")
    print(f"shards made by each of two, each time: {made[2]}")


def write_text(folder: Path, distributions: str, copies: int) -> int:
    """Two sources of JSON lines and a tokenizer in a folder; returns the bytes of text."""
    docs = SourceConfig("python_docs", distributions)
    texts = [text for text in read_documents(docs) if text.strip()]
    model = train_bpe(sample_texts(texts, 8 * 2**20).texts(), 8192).model
    assert model is not None
    model.save(str(folder / "tokenizer.json"))
    texts = [f"{copy} {text}" for copy in range(copies) for text in texts]
    size = 0
    for name, part in (("generic", texts[::2]), ("target", texts[1::2])):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in part)
        size += (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return size


def timed(folder: Path, stores: str, hosts: int, part_bytes: int) -> tuple[float, list[int]]:
    """Seconds until all hosts are done, and how many shards each made."""
    context = get_context("spawn")
    begin, made = context.Barrier(hosts + 1), context.Queue()
    cores = sorted(os.sched_getaffinity(0))
    running = [
        context.Process(
            target=host, args=(folder, stores, cores[number % len(cores)], part_bytes, begin, made)
        )
        for number in range(hosts)
    ]
    for process in running:
        process.start()
    begin.wait()
    start = time.perf_counter()
    counts = [made.get() for _ in running]
    seconds = time.perf_counter() - start
    for process in running:
        process.join()
    return seconds, counts


def host(folder: Path, stores: str, core: int, part_bytes: int, begin: Any, made: Any) -> None:
    """Prepare with one core, and say how many shards were made here."""
    os.sched_setaffinity(0, {core})
    fill, count = shards._fill, 0

    def counting(*arguments: Any) -> None:
        nonlocal count
        count += 1
        fill(*arguments)

    shards._fill = counting
    sources = tuple(
        (name, SourceConfig("jsonl", str(folder / f"{name}.jsonl")))
        for name in ("generic", "target")
    )
    tokenizer = TokenizerConfig("file", str(folder / "tokenizer.json"))
    data = DataConfig(sources, tokenizer, str(folder / stores), "generic", "target")
    begin.wait()
    prepare(data, processes=1, part_bytes=part_bytes)
    made.put(count)


if __name__ == "__main__":
    main()
