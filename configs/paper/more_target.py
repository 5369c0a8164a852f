"""Does replay still matter with sixteen times the target data?

Sixteen batches of StarCoder, 16 epochs, so a quarter of all 1024 steps is target; rho x alpha.
"""

from ml_collections import ConfigDict

from replay_jax.config.grid import grid
from replay_jax.config.paper import batches, repeated, study_config, target_axis

TARGETS = ("starcoder",)


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """Mid-training with more target data."""
    config = study_config(scale, data_generic, data_target, TARGETS)
    (config.schedule.target_sequences,) = batches(scale, [16])
    config.schedule.target_epochs = 16.0
    config.analysis.published = "more_target"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """16 runs for each seed: alpha x rho."""
    runs = grid(
        target_axis(scale, data_target, TARGETS),
        {"schedule.stage2_allocation": [1.0, 0.5, 0.25, 0.125]},
        {"schedule.replay_fraction": [0.0, 0.25, 0.5, 0.75]},
    )
    return repeated(runs, seeds)
