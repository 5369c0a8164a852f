"""Would more weight decay do what replay does?

Six weight decays of the mid-training baseline without replay, at 32 and 64 epochs over one batch of
FineMath. Against replay: run paper/mid_training in the same working directory, or see
paper/controls.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis
from replay_jax.config.grid import grid
from replay_jax.config.paper import repeated, study_config, target_axis

TARGETS = ("finemath",)
WEIGHT_DECAYS = [0.0, 0.1, 0.2, 0.4, 0.8, 1.6]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The mid-training baseline."""
    config = study_config(scale, data_generic, data_target, TARGETS)
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.published = "weight_decay"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """12 runs for each seed: weight decay x epochs."""
    runs = grid(
        target_axis(scale, data_target, TARGETS),
        {"optimizer.weight_decay": WEIGHT_DECAYS},
        {"schedule.target_epochs": [32.0, 64.0]},
    )
    return repeated(runs, seeds)
