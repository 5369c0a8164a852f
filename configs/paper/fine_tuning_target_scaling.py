"""How does fine-tuning without replay gain from more target data?

One, two and four batches of target data, 64 epochs each, from the same 1,000 steps of generic
pre-training (cosine 1e-3); fine-tuning cosine of two peaks.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis
from replay_jax.config.grid import grid, zipped
from replay_jax.config.paper import batches, repeated, target_axis
from replay_jax.config.recipe import config_module

FINE_TUNING = config_module(Path(__file__).with_name("fine_tuning_replay.py"))
PRE_TRAINING_STEPS, EPOCHS = 1000, 64
BATCHES = [1, 2, 4]
PEAK = "schedule.stage2_learning_rate.peak"


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's fine-tuning settings; the law is that of fine-tuning without replay."""
    config = FINE_TUNING.get_config(scale, data_generic, data_target)
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.tuned = (PEAK, "schedule.total_steps")
    config.analysis.published = "fine_tuning_target_scaling"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """18 runs for each seed: target x peak x budget."""
    budgets = zipped(
        {
            "schedule.target_sequences": batches(scale, BATCHES),
            "schedule.total_steps": [PRE_TRAINING_STEPS + EPOCHS * number for number in BATCHES],
        }
    )
    return repeated(grid(target_axis(scale, data_target), {PEAK: [3e-4, 1e-3]}, budgets), seeds)
