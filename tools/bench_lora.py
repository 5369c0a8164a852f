"""How fast and how lean a step with adapters is beside the full one, in one process.

    python tools/bench_lora.py --shape=512,1536,12,8,8,8192 --batch=4 --seq_len=128 --rank=16

Both steps train the same model from random parameters, in turn, and medians of the rounds are
compared, by the clock and in CPU seconds of this process, which other work disturbs less. Memory
is what the compiler counts: parameters and moments that come in, and temporaries (gradients and
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
from replay_jax.model.trained import trained_counts
from replay_jax.training.config import StepShape


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="512,1536,12,8,8,8192")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq_len", type=int, default=128)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    full = scanned(sized_model(given.shape))
    adapters = LoraConfig(rank=given.rank, alpha=2.0 * given.rank, matrices=MATRICES)
    models = {"full": full, "lora": dataclasses.replace(full, lora=adapters)}
    steps = {
        name: prepare_step(StepShape(model, given.batch, given.seq_len, sources=2))
        for name, model in models.items()
    }
    tokens = given.batch * given.seq_len
    found = {name: _facts(models[name], step, tokens) for name, step in steps.items()}
    print(
        json.dumps({"parameters": parameter_counts(full).total, **_compared(found, steps, given)})
    )


def _facts(model: ModelConfig, step: Timed, tokens: int) -> dict[str, float]:
    return {
        "trained": trained_counts(model).total,
        "tokens": tokens,
        "state_bytes": step.state_bytes,
        "temporary_bytes": step.temporary_bytes,
        "bytes": step.state_bytes + step.temporary_bytes,
    }


def _compared(
    found: dict[str, dict[str, float]], steps: dict[str, Timed], given: argparse.Namespace
) -> dict[str, object]:
    """Rates of both, timed in turn as other work on the machine disturbs both, and their ratios."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step.seconds(1)
    for _ in range(given.rounds):
        for name, step in steps.items():
            before = time.process_time()
            seconds[name].append(step.seconds(1))
            cpu[name].append(time.process_time() - before)
    for name, facts in found.items():
        facts["tokens_per_second"] = facts["tokens"] / statistics.median(seconds[name])
    ratios = {
        kind: sorted(full / lora for full, lora in zip(of["full"], of["lora"], strict=True))
        for kind, of in (("clock", seconds), ("cpu", cpu))
    }
    return {
        **found,
        "speed_ratio": {kind: statistics.median(each) for kind, each in ratios.items()},
        "speed_ratios": ratios,
        "memory_ratio": found["lora"]["bytes"] / found["full"]["bytes"],
    }


if __name__ == "__main__":
    main()
