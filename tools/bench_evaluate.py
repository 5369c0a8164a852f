"""Items a second of `evaluate` against lm_eval's own Hugging Face back end, side by side.

A random model folder is written and both answer the same requests: choices that share a context,
texts as rolling windows, and greedy answers. Each is asked twice: first cold, with all that it
compiles, then warm; in turns, so that both see the same machine. On a machine that others use, CPU
seconds of the process are the fairer number. The answers are compared item by item.

    python tools/bench_evaluate.py --shape=256,896,8,4,4,8192 --items=64

Needs the extras `eval` and `bench`.
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import jax
import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from replay_jax.data.tokens.bpe_training import train_bpe
from replay_jax.hub.export import write_model_folder
from replay_jax.library.evaluating import load_folder
from replay_jax.library.texts.harness import LoadedLM
from replay_jax.model.presets import shape_model
from replay_jax.training.step import init_state

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def main() -> None:
    """Print one JSON object for each kind of request."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", default="256,896,8,4,4,8192", help="D,F,L,H,KV,VOCAB")
    parser.add_argument("--items", type=int, default=64, help="of each kind")
    parser.add_argument("--context", type=int, default=200, help="words of a context")
    parser.add_argument("--new_tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--kinds", default="choices,rolling,greedy")
    given = parser.parse_args()
    random = np.random.default_rng(0)
    vocabulary = ["".join(random.choice(list(LETTERS), 5)) for _ in range(2000)]
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place) / "model", given.shape, vocabulary)
        theirs = HFLM(str(folder), device="cpu", batch_size=given.batch, dtype="float32")
        ours = LoadedLM(load_folder(str(folder)), batch_size=given.batch, seed=0)
    for kind in given.kinds.split(","):
        method, asked = requests(kind, given, random, vocabulary)
        said: dict[str, list[object]] = {}
        row: dict[str, object] = {"kind": kind, "items": given.items, "requests": len(asked)}
        for turn in ("cold", "warm"):
            for name, model in (("theirs", theirs), ("ours", ours)):
                wall, cpu = time.perf_counter(), time.process_time()
                said[name] = getattr(model, method)(asked, disable_tqdm=True)
                row[f"{name} {turn} wall s"] = round(time.perf_counter() - wall, 2)
                row[f"{name} {turn} CPU s"] = round(time.process_time() - cpu, 2)
        row["largest difference"] = difference(said["theirs"], said["ours"])
        print(json.dumps(row), flush=True)


def write_folder(place: Path, shape: str, vocabulary: list[str]) -> Path:
    """A random model of a shape with a tokenizer of words."""
    sizes = shape_model(shape)
    words = train_bpe([" ".join(vocabulary)] * 3, sizes.vocab_size)
    model = dataclasses.replace(sizes, vocab_size=words.vocab_size, max_seq_len=2048)
    params = jax.device_get(jax.jit(lambda: init_state(model, 0).params)())
    write_model_folder(place, params, model, words, dtype="float32", facts={})
    return place


def requests(
    kind: str, given: argparse.Namespace, random: np.random.Generator, vocabulary: list[str]
) -> tuple[str, list[Instance]]:
    """A method of the harness's models, and what it is asked."""

    def words(count: int) -> str:
        return " ".join(random.choice(vocabulary, count))

    # Contexts of unequal length, as those of tasks are.
    contexts = [words(int(given.context * random.uniform(0.5, 1.0))) for _ in range(given.items)]
    if kind == "choices":
        pairs = [(context, f" {words(8)}") for context in contexts for _ in range(4)]
        return "loglikelihood", [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    if kind == "rolling":
        texts = [(context,) for context in contexts]
        return "loglikelihood_rolling", [Instance(kind, {}, text, 0) for text in texts]
    settings = {"until": ["\n\n"], "max_gen_toks": given.new_tokens}
    asked = [Instance("generate_until", {}, (context, settings), 0) for context in contexts]
    return "generate_until", asked


def difference(theirs: list, ours: list) -> float | str:
    """The largest in nats; of texts how many are the same."""
    if isinstance(theirs[0], str):
        return f"{sum(a == b for a, b in zip(theirs, ours, strict=True))} of {len(ours)} texts same"
    first = [answer if isinstance(answer, float) else answer[0] for answer in theirs]
    second = [answer if isinstance(answer, float) else answer[0] for answer in ours]
    return float(np.abs(np.array(first) - np.array(second)).max())


if __name__ == "__main__":
    main()
