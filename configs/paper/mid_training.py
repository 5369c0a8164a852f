"""Does early target data help as well as replay (rho x alpha, three targets)?

The paper's main sweep (Figure 7): one batch of target data, 32 epochs, 1024 steps, one
warmup-stable-decay schedule. Placement is the paper's, which shares little at alpha < 1; with
`--config.schedule.placement=aligned --config.schedule.aligned_replay_fraction=0.875` all rho of one
alpha see the same stage 1, which handicaps small rho there (experiments/placement).
"""

from ml_collections import ConfigDict

from replay_jax.config.grid import grid
from replay_jax.config.paper import repeated, study_config, target_axis

REPLAY_FRACTIONS = [0.0, 0.25, 0.5, 0.75, 0.875]
ALLOCATIONS = [1.0, 0.5, 0.25, 0.125]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's mid-training settings."""
    config = study_config(scale, data_generic, data_target)
    config.analysis.published = "mid_training"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """60 runs for each seed: target x alpha x rho."""
    runs = grid(
        target_axis(scale, data_target),
        {"schedule.stage2_allocation": ALLOCATIONS},
        {"schedule.replay_fraction": REPLAY_FRACTIONS},
    )
    return repeated(runs, seeds)
