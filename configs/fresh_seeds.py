"""Do the schedules that seeds 1 to 3 picked keep their order on seeds that had no part in it?

Five schedules of configs/quickstart.py, quickstart_controls.py and early_target.py at 4,096 target
tokens, each at the number of epochs that was best there, on seeds 4 to 9: the usual recipe, the
best constant mixture, the best with early target rows and no replay, the best that replays in
stage 2 alone, and the best that does both. Nothing is chosen here. Result:
experiments/early_target/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

EARLY = config_module(Path(__file__).with_name("early_target.py"))
SEEDS = [4, 5, 6, 7, 8, 9]


def get_config() -> ConfigDict:
    """That of early_target: compared with all target data at the end."""
    config: ConfigDict = EARLY.get_config()
    return config


def sweep() -> list[dict]:
    """Seed x five schedules."""
    rho, alpha, epochs = EARLY.RHO, EARLY.ALPHA, EARLY.EPOCHS
    cells = [
        {rho: 0.0, alpha: 1.0, epochs: 24.0},
        {rho: 0.0, alpha: 0.25, epochs: 40.0},
        {EARLY.PROTOCOL: "uniform", rho: None, alpha: None, epochs: 32.0},
        {rho: 0.75, alpha: 1.0, epochs: 24.0},
        {rho: 0.75, alpha: 0.75, epochs: 24.0},
    ]
    return grid(zipped({"seed": SEEDS, "data_seed": SEEDS}), chain(cells))
