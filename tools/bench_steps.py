"""How fast and how lean other train steps are beside the plain one, in one process.

    python tools/bench_steps.py --steps=lora,kl --shape=512,1536,12,8,8,8192 --batch=4 --seq_len=128

`lora` trains adapters of --rank beside frozen matrices, `kl` holds every row to the model that
training starts from. All steps begin with the same random parameters and are timed in turn, by the
clock and in CPU seconds of this process, which other work disturbs less; ratios are medians of the
rounds, of the plain step's seconds over those of the other one, so more is faster. Memory is what
the compiler counts: parameters, moments and a base that come in, and temporaries (gradients and
activations) of one step.
"""

import argparse
import dataclasses
import json
import statistics
import time

from replay_jax.compile.bench import Timed, prepare_step
from replay_jax.config.defaults import sized_model
from replay_jax.model.architecture import ModelConfig, parameter_counts
from replay_jax.model.lora import MATRICES, LoraConfig
from replay_jax.model.presets import scanned
from replay_jax.model.trained import base_bytes, trained_counts
from replay_jax.training.config import StepShape

PLAIN = "plain"


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", default="lora,kl")
    parser.add_argument("--shape", default="512,1536,12,8,8,8192")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq_len", type=int, default=128)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    model = scanned(sized_model(given.shape))
    every = _shapes(StepShape(model, given.batch, given.seq_len, sources=2), given.rank)
    shapes = {name: every[name] for name in (PLAIN, *given.steps.split(","))}
    steps = {name: prepare_step(shape) for name, shape in shapes.items()}
    seconds = _timed(steps, given.rounds)
    found = {name: _facts(shapes[name], step) for name, step in steps.items()}
    for name, facts in found.items():
        tokens = given.batch * given.seq_len
        facts["tokens_per_second"] = tokens / statistics.median(seconds["clock"][name])
        for kind, of in seconds.items():
            ratios = [plain / own for plain, own in zip(of[PLAIN], of[name], strict=True)]
            facts[f"speed_{kind}"] = [min(ratios), statistics.median(ratios), max(ratios)]
        facts["memory_ratio"] = facts["bytes"] / found[PLAIN]["bytes"]
    print(json.dumps({"parameters": parameter_counts(model).total, **found}))


def _shapes(plain: StepShape, rank: int) -> dict[str, StepShape]:
    adapters = LoraConfig(rank=rank, alpha=2.0 * rank, matrices=MATRICES)
    adapted: ModelConfig = dataclasses.replace(plain.model, lora=adapters)
    return {
        PLAIN: plain,
        "lora": dataclasses.replace(plain, model=adapted),
        "kl": dataclasses.replace(plain, kl_sources=(0,)),
    }


def _facts(shape: StepShape, step: Timed) -> dict[str, float | list[float]]:
    base = base_bytes(shape.model) if shape.carries_base else 0
    return {
        "trained": trained_counts(shape.model).total,
        "state_bytes": step.state_bytes,
        "base_bytes": base,
        "temporary_bytes": step.temporary_bytes,
        "bytes": step.state_bytes + base + step.temporary_bytes,
    }


def _timed(steps: dict[str, Timed], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every step in every round, in turn as other work on the machine disturbs all."""
    seconds: dict[str, dict[str, list[float]]] = {
        kind: {name: [] for name in steps} for kind in ("clock", "cpu")
    }
    for step in steps.values():
        step.seconds(1)
    for _ in range(rounds):
        for name, step in steps.items():
            before = time.process_time()
            seconds["clock"][name].append(step.seconds(1))
            seconds["cpu"][name].append(time.process_time() - before)
    return seconds


if __name__ == "__main__":
    main()
