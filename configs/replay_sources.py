"""What should be replayed when a model's own training text is not to be had?

A small model of Python's documentation (configs/replay_sources_base.py) goes on with C headers.
Replayed are what it was trained on, documentation of other packages in its place, code as a task
related to the target, or text that it wrote itself; and of each but the code, rows are trained on
as text or held to the model by KL. Judged are the target, and by the text that it was trained on
what is forgotten. Nothing is downloaded. Further files to replay, such as instructions, with
--config.data.generic=FILE.jsonl,FILE.jsonl. On seeds that had no part in the choice of epochs, each
choice at its best: --config.fresh=True.
"""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis, continual_schedule, cosine, source
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.paper import target_sources
from replay_jax.config.recipe import config_module

BASE = config_module(Path(__file__).with_name("replay_sources_base.py"))
PLACE = "runs/replay_sources_base"
EPOCHS = [4.0, 8.0, 16.0, 32.0]
MANY = 64.0  # without replay as many steps as half replayed takes at most
BEST = {"next_token": 32.0, "kl": 16.0}  # found by this sweep
BEST_ALONE = 16.0
FRACTIONS = [0.25, 0.5]
FRESH = [4, 5, 6, 7]
# What is replayed, and whether as text, held to the model, or both.
BOTH = ("next_token", "kl")
REPLAYED = {"original": BOTH, "other_docs": BOTH, "own": BOTH, "python_code": BOTH[:1]}


def get_config(data_generic: str = "", initial_weights: str = f"{PLACE}/model") -> ConfigDict:
    """The recipe without replay: C headers alone."""
    config = BASE.get_config()
    config.name = "replay_sources"
    config.initial_weights = initial_weights
    config.data.sources.update(
        {
            "other_docs": source("python_docs", path="jax,flax,optax"),
            "python_code": source("python_code", path="numpy"),
            "own": source("jsonl", f"{PLACE}/own.jsonl"),
            **_given(data_generic),
        }
    )
    config.data.held_out_generic = "original"
    config.schedule = continual_schedule(cosine(1e-3))
    config.schedule.target_sequences, config.schedule.target_epochs = 64, 8.0
    config.training.log_every, config.training.evaluate_every = 8, 0
    config.checkpoint.every = 0
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    return config


def sweep(seeds: int = 3, data_generic: str = "", fresh: bool = False) -> list[dict]:
    """Every choice at two replay fractions against none, epochs tuned for each.

    Fresh: on other seeds, at the epochs that were best.
    """
    choices = REPLAYED | dict.fromkeys(_given(data_generic), BOTH)
    alone = [BEST_ALONE] if fresh else [*EPOCHS, MANY]
    replay = (
        _replayed(name, objective, [BEST[objective]] if fresh else EPOCHS)
        for name, objectives in choices.items()
        for objective in objectives
    )
    numbers = FRESH if fresh else list(range(1, seeds + 1))
    return grid(
        zipped({"seed": numbers, "data_seed": numbers}),
        chain(
            grid({"schedule.replay_fraction": [0.0], "schedule.target_epochs": alone}),
            *replay,
        ),
    )


def _replayed(name: str, objective: str, epochs: Sequence[float]) -> list[dict]:
    return grid(
        {"data.generic": [name], "training.generic_objective": [objective]},
        {"schedule.replay_fraction": FRACTIONS, "schedule.target_epochs": list(epochs)},
    )


def _given(files: str) -> dict[str, ConfigDict]:
    """Sources of files of your own, by their names."""
    return dict(target_sources("", files)) if files else {}
