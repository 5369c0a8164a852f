"""Does it matter where stage-1 target rows lie: the paper's spacing or the aligned one?

The quickstart's model and data with half of the target rows in stage 1 (alpha = .5), rho in
{0, .5, .75}, both placements, paired seeds. Result: experiments/placement/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.defaults import analysis
from replay_jax.recipe import config_module
from replay_jax.sweep.grid import grid, zipped

QUICKSTART = config_module(Path(__file__).with_name("quickstart.py"))
SEEDS = [1, 2, 3]
REPLAY_FRACTIONS = [0.0, 0.5, 0.75]


def get_config() -> ConfigDict:
    """The quickstart's own configuration at alpha = .5."""
    config = QUICKSTART.get_config()
    config.schedule.stage2_allocation = 0.5
    config.schedule.target_epochs = 24.0
    config.analysis = analysis({"replay_fraction": 0.0, "schedule.placement": "paper"})
    return config


def sweep() -> list[dict]:
    """18 runs: seed x placement x rho."""
    placements = zipped(
        {
            "schedule.placement": ["paper", "aligned"],
            "schedule.aligned_replay_fraction": [None, max(REPLAY_FRACTIONS)],
        }
    )
    seeds = zipped({"seed": SEEDS, "data_seed": SEEDS})
    return grid(seeds, placements, {"schedule.replay_fraction": REPLAY_FRACTIONS})
