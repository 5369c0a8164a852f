"""Does fine-tuning still learn from half a batch of target data (512 sequences)?

The variant of paper/fine_tuning_target_scaling with 1024 steps in all, peak 1e-4 and 64 epochs; in
the authors' code half a batch is cut to none, here it is 512 sequences.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis, cosine
from replay_jax.config.grid import grid
from replay_jax.config.paper import batches, repeated, target_axis
from replay_jax.config.recipe import config_module

FINE_TUNING = config_module(Path(__file__).with_name("fine_tuning_replay.py"))


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's fine-tuning settings with half the target data."""
    config = FINE_TUNING.get_config(scale, data_generic, data_target)
    (config.schedule.target_sequences,) = batches(scale, [0.5])
    config.schedule.stage2_learning_rate = cosine(1e-4)
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.published = "fine_tuning_target_scaling"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """3 runs for each seed: one for every target."""
    return repeated(grid(target_axis(scale, data_target)), seeds)
