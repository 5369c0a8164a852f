"""Continual pre-training of Llama-3.1-8B on Basque with replayed SlimPajama.

The paper's 8B case: Latxa corpus v1.1 as target, SlimPajama-6B as generic data, batch 128 x 4096,
200M Basque tokens (400 steps), learning rate 1e-5 with a cosine to zero and no warmup, steps
growing as 400 / (1 - rho). Published XCOPA-eu accuracy: .630 without replay, .646 / .650 / .648
at rho .5, .75 and .9 (500 questions: one standard error is .02). The task's file is written by
tools/convert_task.py.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import (
    analysis,
    continual_schedule,
    cosine,
    model_sizes,
    paper_config,
    source,
)
from replay_jax.config.grid import grid

TARGET_STEPS = 400
REPLAY_FRACTIONS = [0.0, 0.5, 0.75, 0.9]


def get_config() -> ConfigDict:
    """Target and replay are mixed evenly, from the first step to the last."""
    config = paper_config()
    config.initial_weights = "meta-llama/Llama-3.1-8B"
    config.model = model_sizes("8b")
    config.data.sources = {
        "slimpajama": source("jsonl", "data/slimpajama-6b/*.jsonl.zst"),
        "latxa": source("jsonl", "data/latxa-corpus-v1.1/*.jsonl.gz"),
    }
    config.data.generic, config.data.target = "slimpajama", "latxa"
    config.tasks = {"xcopa_eu": "data/xcopa-eu.jsonl"}
    # Llama was trained with a token that begins each document.
    config.data.tokenizer.bos_token = "<|begin_of_text|>"
    config.training.batch_size = 128
    config.training.evaluate_every = TARGET_STEPS // 4
    config.schedule = continual_schedule(cosine(1e-5))
    config.schedule.learning_rate.warmup_fraction = 0.0
    config.schedule.target_sequences = TARGET_STEPS * 128
    config.schedule.target_epochs = 1.0
    config.execution.keep_states = True
    config.analysis = analysis({"replay_fraction": 0.0})
    return config


def sweep() -> list[dict]:
    """Four runs: replay lengthens the run, the Basque rows stay the same."""
    return grid({"schedule.replay_fraction": REPLAY_FRACTIONS})
