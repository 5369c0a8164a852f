"""The small Basque study with the learning rate tuned at every replay fraction as well.

configs/basque_small.py tunes it for the baseline without replay, which flatters the baseline. Here
three rates are tried at 256 sequences, 8 epochs, each replay fraction, three orders of the data.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import grid, zipped
from replay_jax.config.recipe import config_module

BASQUE_SMALL = config_module(Path(__file__).with_name("basque_small.py"))
PEAK = "schedule.learning_rate.peak"


def get_config() -> ConfigDict:
    """As basque_small, but that the best rate is chosen."""
    config = BASQUE_SMALL.get_config()
    config.analysis.tuned = (PEAK,)
    return config


def sweep() -> list[dict]:
    """27 runs."""
    return grid(
        zipped({"seed": BASQUE_SMALL.SEEDS, "data_seed": BASQUE_SMALL.SEEDS}),
        {"schedule.replay_fraction": [0.0, 0.5, 0.75]},
        {PEAK: [3e-3, 6e-3, 1e-2]},
    )
