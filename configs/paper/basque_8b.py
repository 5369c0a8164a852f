"""Continual pre-training of Llama-3.1-8B on Basque with replayed SlimPajama.

The paper's 8B case: Latxa corpus v1.1 as target, SlimPajama-6B as generic data, batch 128 x 4096,
200M and 40M Basque tokens (400 and 80 steps), 1, 2 and 4 epochs, learning rate 1e-5 with a cosine
to zero and no warmup, steps growing as target steps / (1 - rho). The task's file is written by
tools/convert_task.py. Held-out sets are small, so that measuring costs a run at most 5 % of its
training. At smaller scales training starts from a model of yours (configs/basque_small_base.py
trains one), with a fifth of the steps at "tiny".
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import (
    analysis,
    continual_schedule,
    cosine,
    model_sizes,
    pretrained_model,
    source,
    tokenizer,
)
from replay_jax.config.grid import chain, grid
from replay_jax.config.paper import own_source, repeated, sized, study_config
from replay_jax.errors import UserError

LLAMA = "meta-llama/Llama-3.1-8B"
BATCH = 128
# Steps of target data: 200M and 40M tokens.
STEPS = {"tiny": (80, 16), "small": (400, 80), "full": (400, 80)}
REPLAY_FRACTIONS = [0.0, 0.5, 0.75, 0.9]
EPOCHS = [1.0, 2.0, 4.0]


def get_config(
    scale: str = "full", data_generic: str = "", data_target: str = "", initial_weights: str = ""
) -> ConfigDict:
    """Target and replay are mixed evenly, from the first step to the last."""
    config = study_config(scale, data_generic, data_target)
    config.initial_weights = initial_weights or LLAMA
    if scale == "full":
        config.model = model_sizes("8b")
        config.data.sources = {
            "slimpajama": _corpus(data_generic, "data/slimpajama-6b/*.jsonl.zst", 0.7),
            "latxa": _corpus(data_target, "data/latxa-corpus-v1.1/*.jsonl.gz", 1.0),
        }
        config.data.generic, config.data.target = "slimpajama", "latxa"
        config.tasks = {"xcopa_eu": "data/xcopa-eu.jsonl"}
    else:
        _start_small(config, scale, initial_weights)
    config.training.batch_size = min(BATCH, sized(scale).batch_size)
    config.training.evaluate_every = STEPS[scale][0] // 4
    config.evaluation = {"sequences": 2 * config.training.batch_size, "batch_size": BATCH}
    config.schedule = continual_schedule(cosine(1e-5 if scale == "full" else 1e-3))
    config.schedule.learning_rate.warmup_fraction = 0.0
    config.schedule.target_sequences = STEPS[scale][0] * config.training.batch_size
    config.schedule.target_epochs = 1.0
    config.execution.keep_states = scale == "full"
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.published = "basque_8b"
    return config


def sweep(scale: str = "full", seeds: int = 1) -> list[dict]:
    """23 runs for each seed: budget x epochs x rho.

    Without 4 epochs of 200M tokens at rho .9, which would draw more than SlimPajama-6B has.
    """
    many, few = (steps * min(BATCH, sized(scale).batch_size) for steps in STEPS[scale])
    budget, epochs, rho = (
        f"schedule.{name}" for name in ("target_sequences", "target_epochs", "replay_fraction")
    )
    runs = chain(
        grid({budget: [many]}, {epochs: EPOCHS[:2]}, {rho: REPLAY_FRACTIONS}),
        grid({budget: [many]}, {epochs: EPOCHS[2:]}, {rho: REPLAY_FRACTIONS[:-1]}),
        grid({budget: [few]}, {epochs: EPOCHS}, {rho: REPLAY_FRACTIONS}),
    )
    return repeated(runs, seeds)


def _corpus(own: str, path: str, train_fraction: float) -> ConfigDict:
    return own_source(own) if own else source("jsonl", path, train_fraction=train_fraction)


def _start_small(config: ConfigDict, scale: str, weights: str) -> None:
    """The model of a folder with its own tokenizer, in place of Llama."""
    if not weights:
        raise UserError(
            f"at scale '{scale}' training starts from a model of yours: name its folder with "
            "--config.initial_weights=PATH (configs/basque_small_base.py trains one)"
        )
    config.model = pretrained_model(weights)
    config.data.tokenizer = tokenizer("file", path=f"{weights}/tokenizer.json")
