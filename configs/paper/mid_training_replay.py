"""How much target data is replay worth in mid-training (replay only, alpha = 1)?

The first column of the paper's Figure 7: three targets, one batch of target data, 32 epochs, 1024
steps, one warmup-stable-decay schedule. Runs share their generic steps until they branch. Cost:
about 2.9e18 FLOP for one run; `plan` says what is shared. A multiplier needs the reference law: run
paper/reference_law in the same working directory, or paper/headline.
"""

from ml_collections import ConfigDict

from replay_jax.config.grid import grid
from replay_jax.config.paper import repeated, study_config, target_axis

REPLAY_FRACTIONS = [0.0, 0.25, 0.5, 0.75, 0.875]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's mid-training settings."""
    config = study_config(scale, data_generic, data_target)
    config.analysis.published = "mid_training"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """15 runs for each seed: target x rho."""
    targets = target_axis(scale, data_target)
    return repeated(grid(targets, {"schedule.replay_fraction": REPLAY_FRACTIONS}), seeds)
