"""Do the schedules that seeds 1 to 3 picked keep their order on seeds that had no part in it?

Five schedules of configs/quickstart.py, quickstart_controls.py and early_target.py at 4,096 target
tokens, each at the number of epochs that was best there, on seeds 4 to 9: the usual recipe, the
best constant mixture, the best with early target rows and no replay, the best that replays in
stage 2 alone, and the best that does both. Nothing is chosen here. Result:
experiments/early_target/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

QUICKSTART = config_module(Path(__file__).with_name("quickstart.py"))
SEEDS = [4, 5, 6, 7, 8, 9]
PROTOCOL = "schedule.protocol"
RHO, ALPHA = "schedule.replay_fraction", "schedule.stage2_allocation"
EPOCHS = "schedule.target_epochs"


def get_config() -> ConfigDict:
    """The quickstart's own configuration, compared with all target data at the end."""
    config = QUICKSTART.get_config()
    config.analysis = analysis({RHO: 0.0, ALPHA: 1.0})
    return config


def sweep() -> list[dict]:
    """Seed x five schedules."""
    seeds = zipped({"seed": SEEDS, "data_seed": SEEDS})
    cells = [
        {RHO: 0.0, ALPHA: 1.0, EPOCHS: 24.0},
        {RHO: 0.0, ALPHA: 0.25, EPOCHS: 40.0},
        {PROTOCOL: "uniform", RHO: None, ALPHA: None, EPOCHS: 32.0},
        {RHO: 0.75, ALPHA: 1.0, EPOCHS: 24.0},
        {RHO: 0.75, ALPHA: 0.75, EPOCHS: 24.0},
    ]
    return grid(seeds, chain(cells))
