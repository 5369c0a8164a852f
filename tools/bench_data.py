"""Measure the data path side by side in one process: store to batch, and text to store.

    python tools/bench_data.py [--json]
    python tools/bench_data.py --conversations     # needs the extra "bench"

Order: rows/s of the permutation that budgets and epochs are drawn from, a million places at once
and as few as one source has in a small batch.
Store to batch: tokens/s of `run_dataset`, as training reads it, from a store made for the purpose.
Text to store: tokens/s of `prepare` on a json-lines file (read, split, encode, write, checksum)
against the `tokenizers` library alone on the same texts in memory, in alternation, with the same
trained tokenizer. The library is timed twice: with the ids taken out, which is what anyone needs,
and without, which leaves them inside its own objects. On a machine that others use too, the same
ratios in CPU seconds are the steadier ones.
Conversations to store: tokens/s of `prepare` on a json-lines file of conversations (render, mask,
encode, write, checksum) against `transformers.apply_chat_template` on the same conversations in
memory, in batches of 256, which its fast tokenizer spreads over the cores. With a template that
marks what is generated, and with one that does not (rendered again for every assistant turn).
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from replay_jax.data.reading.pipeline import read_ahead, run_dataset
from replay_jax.data.reading.views import SourceView
from replay_jax.data.sources.documents import Document
from replay_jax.data.sources.parts import read_documents
from replay_jax.data.sources.source import SourceConfig
from replay_jax.data.tokens.bpe_training import sample_texts, train_bpe
from replay_jax.data.tokens.config import DataConfig, TokenizerConfig
from replay_jax.data.tokens.prepare import prepare
from replay_jax.data.tokens.store import TokenStore
from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.data.tokens.writer import StoreWriter
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.permutation import permuted
from replay_jax.schedule.stages import Schedule
from replay_jax.schedule.two_stage import two_stage

GOAL_ROWS_PER_SECOND = 20e6
GOAL_TOKENS_PER_SECOND = 10e6
GOAL_TOKENIZATION = 0.9
# Processes of `prepare`; by itself it chooses.
WAYS = {"prepare": None, "prepare_one_process": 1, "prepare_two_processes": 2}


def main() -> None:
    """Run all measurements and print a table, or one JSON object with --json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seq_len", type=int, default=1024, help="labels per sequence")
    parser.add_argument("--batch_size", type=int, default=32, help="sequences per batch")
    parser.add_argument("--megatokens", type=int, default=256, help="size of the store")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each measurement")
    parser.add_argument("--repeats", type=int, default=3, help="alternations; medians are printed")
    parser.add_argument("--vocab_size", type=int, default=8192, help="of the trained tokenizer")
    parser.add_argument(
        "--distributions",
        default="python,numpy,scipy,jax",
        help="packages whose documentation is tokenized",
    )
    parser.add_argument("--copies", type=int, default=8, help="of that text, to make it long")
    parser.add_argument("--only_text", action="store_true", help="leave out store to batch")
    parser.add_argument(
        "--conversations", action="store_true", help="conversations to store, and nothing else"
    )
    options = parser.parse_args()
    if options.conversations:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure_conversations(Path(folder), options), indent=1))
        return
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "cores": os.cpu_count(),
            "machine": platform.processor() or platform.machine(),
            "load_average": os.getloadavg()[0],
            **({} if options.only_text else measure_reading(Path(folder), options)),
            "text_to_store": measure_tokenization(Path(folder), options),
        }
    print(json.dumps(result, indent=1) if options.json else table(result))


def measure_order() -> dict[str, float]:
    """Rows per CPU second of the permutation by number of rows: medians of 20 repetitions each."""
    rates = {}
    for size in (2**16 + 1, 8_300_000, 2**24, 10**9):
        for count in (10**6, 32):
            places = np.arange(count) % size
            times = 1 if count > 1000 else 1000
            spent = []
            for _ in range(20):
                _, seconds = measured(
                    lambda places=places, size=size, times=times: [
                        permuted(places, size, b"order") for _ in range(times)
                    ]
                )
                spent.append(seconds.cpu / times)
            rates[f"{count:,} of {size:,}"] = count / statistics.median(spent)
    return rates


def measure_reading(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """How fast rows are ordered, and batches read."""
    return {"order": measure_order(), "store_to_batch": measure_batches(folder, options)}


def measure_batches(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median tokens/s of each way to read, all taking turns."""
    stores = {
        "generic": random_store(folder / "generic", options.megatokens * 10**6, seed=0),
        "target": random_store(folder / "target", 2 * 10**6, seed=1),
    }
    views = {
        name: SourceView(
            source=name,
            fingerprint=store.fingerprint,
            seq_len=options.seq_len,
            pool_rows=len(store.rows("train", options.seq_len)),
            budget_rows=1024 if name == "target" else None,
            seed=0,
            repeat=True,
        )
        for name, store in stores.items()
    }
    schedule = replay_schedule(options.batch_size)

    def reading(threads: int, *, mask: bool = False) -> Callable[[], Iterable[object]]:
        batches = run_dataset(
            stores=stores,
            views=views,
            schedule=schedule,
            document_mask=mask,
            loss_weight_by_source={},
        )
        return lambda: read_ahead(batches, start=0, stop=len(batches), threads=threads)

    ways = {
        "no_threads": reading(0),
        "one_thread": reading(1),
        "two_threads": reading(2),
        "two_threads_document_mask": reading(2, mask=True),
    }
    spent: dict[str, list[Spent]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, way in ways.items():
            spent[name].append(per_batch(way(), options.seconds))
    tokens = options.batch_size * options.seq_len
    wall = {name: tokens / statistics.median(s.wall for s in all_) for name, all_ in spent.items()}
    cpu = {name: tokens / statistics.median(s.cpu for s in all_) for name, all_ in spent.items()}
    return {**wall, **{f"{name}_per_cpu_second": rate for name, rate in cpu.items()}}


def per_batch(batches: Iterable[object], seconds: float) -> "Spent":
    """What a batch takes, after the first one."""
    reader = iter(batches)
    next(reader)
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        next(reader)
        count += 1
    return Spent((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


def measure_tokenization(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median tokens/s of `prepare` and of the library alone, and the ratios of the medians."""
    docs = SourceConfig("python_docs", options.distributions)
    texts = [text for text in read_documents(docs) if isinstance(text, str) and text.strip()]
    tokenizer = train_bpe(sample_texts(texts, 8 * 2**20).texts(), options.vocab_size)
    assert tokenizer.model is not None
    tokenizer.model.save(str(folder / "tokenizer.json"))
    # Long enough for processes, which take 2 seconds to begin; the copies differ in a word.
    texts = [f"{copy} {text}" for copy in range(options.copies) for text in texts]
    sources = []
    for name, part in (("generic", texts[::2]), ("target", texts[1::2])):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": t}) + "\n" for t in part), encoding="utf-8")
        sources.append((name, SourceConfig("jsonl", str(path))))
    spent: dict[str, list[Spent]] = {name: [] for name in (*WAYS, "library_ids", "library_objects")}
    for repeat in range(options.repeats):
        for way, processes in WAYS.items():
            data = DataConfig(
                tuple(sources),
                TokenizerConfig("file", str(folder / "tokenizer.json")),
                str(folder / f"stores-{way}-{repeat}"),
                "generic",
                "target",
            )
            stores, seconds = measured(
                lambda data=data, processes=processes: prepare(data, processes=processes)
            )
            spent[way].append(seconds)
        counts = [c for store in stores.values() for c in store.manifest.splits.values()]
        tokens = sum(c.tokens for c in counts) - len(texts)
        for name, take_ids in (("library_ids", True), ("library_objects", False)):
            found, seconds = measured(
                lambda take_ids=take_ids: library_tokens(tokenizer.model, texts, take_ids=take_ids)
            )
            # The same work, or the comparison is worth nothing.
            assert found == tokens, f"{found} tokens where the stores have {tokens}"
            spent[name].append(seconds)
    wall = {name: statistics.median(s.wall for s in all_) for name, all_ in spent.items()}
    cpu = {name: statistics.median(s.cpu for s in all_) for name, all_ in spent.items()}
    return {
        "megabytes": sum(len(text.encode()) for text in texts) / 1e6,
        **{name: tokens / seconds for name, seconds in wall.items()},
        "ratio_to_library_ids": wall["library_ids"] / wall["prepare"],
        "ratio_to_library_objects": wall["library_objects"] / wall["prepare"],
        "cpu_ratio_to_library_ids": cpu["library_ids"] / cpu["prepare"],
        "cpu_ratio_to_library_objects": cpu["library_objects"] / cpu["prepare"],
    }


# ChatML: with {% generation %} where the marks are wanted.
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{{ '\\n' }}"
    "{% if m['role'] == 'assistant' %}<GENERATION>{{ m['content'] }}<|im_end|><END>"
    "{% else %}{{ m['content'] }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)


def measure_conversations(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median tokens/s of both by template, and the ratios of the medians."""
    import transformers

    docs = SourceConfig("python_docs", options.distributions)
    texts = [text for text in read_documents(docs) if isinstance(text, str) and text.strip()]
    pieces = [p for text in texts for p in text.split("\n\n") if p.strip()] * options.copies
    talks = []
    for first in range(0, len(pieces) - 6, 6):  # three questions, three answers
        roles = ("user", "assistant") * 3
        turns = zip(roles, pieces[first : first + 6], strict=True)
        talks.append([{"role": role, "content": content} for role, content in turns])
    model = train_bpe(sample_texts(texts, 8 * 2**20).texts(), options.vocab_size).model
    assert model is not None
    model.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    found: dict[str, float] = {"conversations": len(talks), "cores": os.cpu_count() or 1}
    for name, marks in (
        ("marked", ("{% generation %}", "{% endgeneration %}")),
        ("plain", ("", "")),
    ):
        template = CHAT.replace("<GENERATION>", marks[0]).replace("<END>", marks[1])
        here = folder / name
        here.mkdir()
        model.save(str(here / "tokenizer.json"))
        (here / "chat_template.jinja").write_text(template)
        theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(here / "tokenizer.json"))
        theirs.chat_template = template
        spent: dict[str, list[Spent]] = {"ours": [], "theirs": []}
        for repeat in range(options.repeats):
            data = conversation_data(here, talks, here / f"stores-{repeat}")
            stores, seconds = measured(lambda data=data: prepare(data))
            spent["ours"].append(seconds)
            count, seconds = measured(lambda theirs=theirs: template_tokens(theirs, talks))
            spent["theirs"].append(seconds)
            own = sum(c.tokens for s in stores.values() for c in s.manifest.splits.values())
            assert own == count, f"{count} tokens where the stores have {own}"
        for clock in ("wall", "cpu"):
            ours, other = (
                statistics.median(getattr(s, clock) for s in spent[way]) for way in spent
            )
            found[f"{name}_{clock}_tokens_per_second"] = own / ours
            found[f"{name}_{clock}_ratio_to_transformers"] = other / ours
    return found


def conversation_data(folder: Path, talks: list[Any], stores: Path) -> DataConfig:
    """The conversations as two sources that share a tokenizer."""
    sources = []
    for name, own in (("generic", talks[::2]), ("target", talks[1::2])):
        path = folder / f"{name}.jsonl"
        lines = (json.dumps({"messages": talk}) + "\n" for talk in own)
        path.write_text("".join(lines), encoding="utf-8")
        sources.append((name, SourceConfig("conversations", str(path), max_tokens=10**6)))
    tokenizer = TokenizerConfig("file", str(folder / "tokenizer.json"))
    return DataConfig(tuple(sources), tokenizer, str(stores), "generic", "target")


def template_tokens(tokenizer: Any, talks: list[Any]) -> int:
    """Tokens of the conversations as `transformers` renders and encodes them."""
    found = 0
    for first in range(0, len(talks), 256):
        batch = tokenizer.apply_chat_template(talks[first : first + 256], return_dict=True)
        found += sum(map(len, batch["input_ids"]))
    return found


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and CPU seconds of this process and of those it waited for."""

    wall: float
    cpu: float


def measured(work: Callable[[], Any]) -> tuple[Any, Spent]:
    """What the work returns and what it took."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    result = work()
    return result, Spent(time.perf_counter() - wall, sum(os.times()[:4]) - cpu)


def library_tokens(model: tokenizers.Tokenizer, texts: list[str], *, take_ids: bool) -> int:
    """Tokens of the texts, encoded by the library in batches of 1024 on all cores."""
    found = 0
    for first in range(0, len(texts), 1024):
        encoded = model.encode_batch_fast(texts[first : first + 1024], add_special_tokens=False)
        found += sum(len(item.ids) if take_ids else len(item) for item in encoded)
    return found


def random_store(path: Path, tokens: int, *, seed: int) -> TokenStore:
    """A store of random bytes in documents of 800 tokens."""
    writer = StoreWriter(path, byte_tokenizer())
    rng = np.random.default_rng(seed)
    for held_out, total in ((False, tokens), (True, 100_000)):
        for first in range(0, total, 800_000):
            ids = rng.integers(0, 256, (1000, 799), dtype=np.uint8)
            pieces = [(Document("x", 799, first + i, held_out), True) for i in range(1000)]
            writer.append(pieces, list(ids))
    writer.finish(source=path.name, kind="text", identity="", inputs="")
    return TokenStore.open(path)


def replay_schedule(batch_size: int) -> Schedule:
    """A run long enough not to end while it is timed, half of its second half replay."""
    steps = 40_000
    rate = LearningRate(1e-3, "linear", 0.01, 0.1, 0.0)
    return two_stage(
        total_steps=steps,
        batch_size=batch_size,
        target_sequences=1024,
        target_epochs=steps * batch_size / 4 / 1024,
        replay_fraction=0.5,
        stage2_allocation=0.5,
        learning_rate=rate,
    )


def table(result: dict) -> str:
    """The result in words, with the goals."""
    text = result["text_to_store"]
    lines = [f"{result['cores']} cores, load average {result['load_average']:.1f}", ""]
    if "store_to_batch" in result:
        lines += ["order, million rows per CPU second (medians)"]
        lines += [f"  {name:28s}{rate / 1e6:10.1f}" for name, rate in result["order"].items()]
        most = max(result["order"].values())
        lines += [f"  best against the goal of {GOAL_ROWS_PER_SECOND / 1e6:g} M rows/s: "
                  f"{most / GOAL_ROWS_PER_SECOND:.1f} x", ""]  # fmt: skip
        batches = result["store_to_batch"]
        best = max(rate for name, rate in batches.items() if not name.endswith("_second"))
        lines += ["store to batch, million tokens/s (medians)"]
        for name in batches:
            if f"{name}_per_cpu_second" in batches:
                per_cpu = batches[f"{name}_per_cpu_second"] / 1e6
                rate = batches[name] / 1e6
                lines += [f"  {name:28s}{rate:10.1f}  ({per_cpu:.1f} per CPU second)"]
        lines += [f"  best against the goal of {GOAL_TOKENS_PER_SECOND / 1e6:g} M tokens/s: "
                  f"{best / GOAL_TOKENS_PER_SECOND:.1f} x", ""]  # fmt: skip
    lines += [f"text to store, million tokens/s (medians), {text['megabytes']:.1f} MB"]
    for name in (*WAYS, "library_ids", "library_objects"):
        lines.append(f"  {name:28s}{text[name] / 1e6:10.2f}")
    lines += [
        f"  prepare / library with ids taken out: {text['ratio_to_library_ids']:.2f} "
        f"(goal {GOAL_TOKENIZATION})",
        f"  prepare / library without:            {text['ratio_to_library_objects']:.2f}",
        f"  the same in CPU seconds:              {text['cpu_ratio_to_library_ids']:.2f} "
        f"and {text['cpu_ratio_to_library_objects']:.2f}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
