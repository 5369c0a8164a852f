"""Against the best schedule without replay, is there anything left for replay to gain?

The quickstart's model and data with 4,096 target tokens, in the paper's placement and with epochs
tuned in every cell: target rows spread early (alpha = .25 and .5) without and with replay, and a
constant mixture of the same rows. Three paired seeds; what they pick is run again on fresh ones
(configs/fresh_seeds.py). Result: experiments/early_target/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

QUICKSTART = config_module(Path(__file__).with_name("quickstart.py"))
SEEDS = [1, 2, 3]
PROTOCOL = "schedule.protocol"
RHO, ALPHA = "schedule.replay_fraction", "schedule.stage2_allocation"
EPOCHS = "schedule.target_epochs"


def get_config() -> ConfigDict:
    """The quickstart's own configuration, compared with all target data at the end."""
    config = QUICKSTART.get_config()
    config.analysis = analysis({RHO: 0.0, ALPHA: 1.0})
    return config


def sweep() -> list[dict]:
    """Seed x (alpha x rho x epochs, a constant mixture x epochs, and alpha = 1 for comparison)."""
    seeds = zipped({"seed": SEEDS, "data_seed": SEEDS})
    cells = chain(
        grid({RHO: [0.0]}, {ALPHA: [0.25]}, {EPOCHS: [24.0, 32.0, 40.0, 48.0]}),
        grid({RHO: [0.0]}, {ALPHA: [0.5]}, {EPOCHS: [24.0, 32.0, 40.0]}),
        grid({RHO: [0.75]}, {ALPHA: [0.5, 0.75]}, {EPOCHS: [24.0, 32.0]}),
        grid({RHO: [0.0, 0.75]}, {ALPHA: [1.0]}, {EPOCHS: [16.0, 24.0, 32.0]}),
    )
    constant = grid(
        {PROTOCOL: ["uniform"]},
        {RHO: [None]},
        {ALPHA: [None]},
        {EPOCHS: [16.0, 24.0, 32.0, 48.0]},
    )
    return grid(seeds, chain(cells, constant))
