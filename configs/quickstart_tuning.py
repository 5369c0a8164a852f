"""Which learning rate and cooldown should the quickstart's no-replay baseline have?

The baseline is tuned before replay is compared with it: peak learning rate, cooldown length and
epochs at rho = 0, and the learning rate once more at rho = .75 so that the frozen value favours
neither. One seed. Results: experiments/quickstart/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import chain, grid
from replay_jax.config.recipe import config_module

QUICKSTART = config_module(Path(__file__).with_name("quickstart.py"))
PEAKS = [5e-4, 1e-3, 3e-3]


def get_config() -> ConfigDict:
    """The quickstart's own configuration."""
    config = QUICKSTART.get_config()
    config.seed = config.data_seed = 7
    config.analysis.tuned = (
        "schedule.target_epochs",
        "schedule.learning_rate.peak",
        "schedule.learning_rate.decay_fraction",
    )
    return config


def sweep() -> list[dict]:
    """27 runs without replay, 9 with."""
    rho, epochs = "schedule.replay_fraction", "schedule.target_epochs"
    peak, decay = "schedule.learning_rate.peak", "schedule.learning_rate.decay_fraction"
    return chain(
        grid({peak: PEAKS}, {decay: [0.05, 0.1, 0.2]}, {rho: [0.0]}, {epochs: [16.0, 24.0, 32.0]}),
        grid({peak: PEAKS}, {decay: [0.1]}, {rho: [0.75]}, {epochs: [8.0, 16.0, 24.0]}),
    )
