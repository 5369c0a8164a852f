"""Does early target data help as well (rho x alpha, three targets)?

The paper's main sweep (Figure 7): 60 runs. Placement is aligned, so all rho of one alpha see the
same stage 1 (docs/design.md). That handicaps small rho at alpha < 1 (experiments/placement); set
schedule.placement to "paper" and schedule.aligned_replay_fraction to None for the authors' own
placement, which shares almost nothing at alpha < 1. Published best cells: StarCoder rho .5, alpha
1 (3.03); FineMath rho .25-.5, alpha .25 (3.36); Flan rho .5, alpha .25 (3.29).
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import paper_config
from replay_jax.config.grid import grid

TARGETS = ["finemath", "starcoder", "flan"]
REPLAY_FRACTIONS = [0.0, 0.25, 0.5, 0.75, 0.875]
ALLOCATIONS = [1.0, 0.5, 0.25, 0.125]


def get_config() -> ConfigDict:
    """The paper's mid-training settings with aligned placement."""
    config = paper_config()
    config.schedule.placement = "aligned"
    config.schedule.aligned_replay_fraction = max(REPLAY_FRACTIONS)
    return config


def sweep() -> list[dict]:
    """60 runs: target x alpha x rho."""
    return grid(
        {"data.target": TARGETS},
        {"schedule.stage2_allocation": ALLOCATIONS},
        {"schedule.replay_fraction": REPLAY_FRACTIONS},
    )
