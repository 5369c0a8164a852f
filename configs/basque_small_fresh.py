"""Does what the small Basque study picked hold on data orders that had no part in the picking?

The best rate and epochs of every replay fraction of configs/basque_small_tuned.py (without replay
two rates that nothing tells apart), on seeds 4 to 9. Nothing is chosen here. Result:
experiments/basque_small/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

TUNED = config_module(Path(__file__).with_name("basque_small_tuned.py"))
SEEDS = [4, 5, 6, 7, 8, 9]
PICKED = [(0.0, 3e-3), (0.0, 6e-3), (0.5, 6e-3), (0.75, 1e-2)]


def get_config() -> ConfigDict:
    """As basque_small_tuned; of the two rates without replay the better one is compared."""
    config: ConfigDict = TUNED.get_config()
    config.name = "basque_small_fresh"
    config.analysis.tuned = (TUNED.PEAK,)
    return config


def sweep() -> list[dict]:
    """Seed x four settings."""
    cells = chain(*(TUNED.runs(256, rho, peak, [8.0]) for rho, peak in PICKED))
    return grid(zipped({"seed": SEEDS, "data_seed": SEEDS}), cells)
