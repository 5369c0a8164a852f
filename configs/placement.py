"""Does it matter where stage-1 target rows lie: the paper's spacing or the aligned one?

The quickstart's model and data with half of the target rows in stage 1 (alpha = .5), rho in
{0, .5, .75}, both placements, paired seeds; and without replay in the paper's placement the further
settings of configs/quickstart_controls.py. On other seeds, without those: --config.fresh=True.
Result: experiments/placement/README.md.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

QUICKSTART = config_module(Path(__file__).with_name("quickstart.py"))
SEEDS, FRESH = [1, 2, 3], [4, 5, 6, 7]
REPLAY_FRACTIONS = [0.0, 0.5, 0.75]
RHO, ALPHA = "schedule.replay_fraction", "schedule.stage2_allocation"
PLACEMENT, ALIGNED = "schedule.placement", "schedule.aligned_replay_fraction"
EPOCHS = "schedule.target_epochs"


def get_config() -> ConfigDict:
    """The quickstart's own configuration at alpha = .5."""
    config = QUICKSTART.get_config()
    config.schedule.stage2_allocation = 0.5
    config.schedule.target_epochs = 24.0
    config.analysis = analysis({RHO: 0.0, PLACEMENT: "paper"})
    return config


def sweep(fresh: bool = False) -> list[dict]:
    """Seed x (placement x rho, and alpha x epochs at rho = 0)."""
    numbers = FRESH if fresh else SEEDS
    seeds = zipped({"seed": numbers, "data_seed": numbers})
    placements = zipped({PLACEMENT: ["paper", "aligned"], ALIGNED: [None, max(REPLAY_FRACTIONS)]})
    compared = grid(placements, {RHO: REPLAY_FRACTIONS})
    if fresh:
        return grid(seeds, compared)
    paper = {PLACEMENT: ["paper"], ALIGNED: [None], RHO: [0.0]}
    more = chain(
        grid(paper, {ALPHA: [0.5]}, {EPOCHS: [32.0]}),
        grid(paper, {ALPHA: [0.75]}, {EPOCHS: [24.0, 32.0]}),
    )
    return grid(seeds, chain(compared, more))
