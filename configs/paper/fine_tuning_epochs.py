"""How often should the target data be repeated in fine-tuning without replay?

One batch of target data, fine-tuned from the same 1,000 steps of generic pre-training (cosine
1e-3), so the total grows with the epochs; fine-tuning cosine of two peaks. The authors chose 64
epochs and 3e-4.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis
from replay_jax.config.grid import grid, zipped
from replay_jax.config.paper import repeated, target_axis
from replay_jax.config.recipe import config_module

FINE_TUNING = config_module(Path(__file__).with_name("fine_tuning_replay.py"))
PRE_TRAINING_STEPS = 1000
EPOCHS = [8, 16, 32, 64, 128, 256]
PEAKS = [3e-4, 1e-3]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's fine-tuning settings without replay."""
    config = FINE_TUNING.get_config(scale, data_generic, data_target)
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.tuned = (
        "schedule.target_epochs",
        "schedule.total_steps",
        "schedule.stage2_learning_rate.peak",
    )
    config.analysis.published = "fine_tuning_epochs"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1, after: int = 0) -> list[dict]:
    """36 runs for each seed: target x peak x epochs; `after` seeds are passed over."""
    epochs = zipped(
        {
            "schedule.target_epochs": [float(number) for number in EPOCHS],
            "schedule.total_steps": [PRE_TRAINING_STEPS + number for number in EPOCHS],
        }
    )
    peaks = {"schedule.stage2_learning_rate.peak": PEAKS}
    return repeated(grid(target_axis(scale, data_target), peaks, epochs), seeds, after=after)
