"""Does what the small Basque study picked hold on data orders that had no part in the picking?

The best rate and epochs of every replay fraction of configs/basque_small_tuned.py, and without
replay two higher rates at fewer epochs, on seeds 4 to 9. Nothing that replays is chosen here.
Result: experiments/basque_small_tuned/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

TUNED = config_module(Path(__file__).with_name("basque_small_tuned.py"))
SEEDS = [4, 5, 6, 7, 8, 9]
PICKED = [
    (0.0, 1.5e-3, 16.0),
    (0.0, 3e-3, 8.0),
    (0.0, 6e-3, 8.0),
    (0.5, 6e-3, 8.0),
    (0.75, 1e-2, 8.0),
]


def get_config() -> ConfigDict:
    """As basque_small_tuned; of the settings without replay the best one is compared."""
    config: ConfigDict = TUNED.get_config()
    config.name = "basque_small_fresh"
    config.analysis.tuned = (TUNED.PEAK, TUNED.EPOCHS)
    return config


def sweep() -> list[dict]:
    """Seed x five settings."""
    cells = chain(*(TUNED.runs(256, rho, peak, [epochs]) for rho, peak, epochs in PICKED))
    return grid(zipped({"seed": SEEDS, "data_seed": SEEDS}), cells)
