"""Which cooldown and learning rate should the mid-training baseline have?

Cooldown over none to all of the run, at two peak learning rates; FineMath, 32 epochs, no replay,
all target data at the end. The authors chose the last tenth and 3e-3.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis
from replay_jax.config.grid import grid
from replay_jax.config.paper import repeated, study_config, target_axis

TARGETS = ("finemath",)
COOLDOWNS = [0.0, 0.05, 0.1, 0.2, 0.5, 0.99]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The mid-training baseline."""
    config = study_config(scale, data_generic, data_target, TARGETS)
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.published = "cooldown"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """12 runs for each seed: peak x cooldown."""
    runs = grid(
        target_axis(scale, data_target, TARGETS),
        {"schedule.learning_rate.peak": [1e-3, 3e-3]},
        {"schedule.learning_rate.decay_fraction": COOLDOWNS},
    )
    return repeated(runs, seeds)
