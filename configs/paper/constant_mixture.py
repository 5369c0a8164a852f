"""Is a constant mixture of the same target rows as good as two stages?

The control of the paper's main sweep: one batch of target data mixed evenly into all 1024 steps, 1
to 32 epochs, the learning rate of mid-training. Others announced it and published no result. Up to
96 epochs are ours, so that the best does not lie at the edge. Run it in the working directory of
paper/mid_training and the report compares the two.
"""

from ml_collections import ConfigDict

from replay_jax.config.grid import grid
from replay_jax.config.paper import repeated, study_config, target_axis

EPOCHS = [1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """Uniform mixing with the schedule of mid-training."""
    config = study_config(scale, data_generic, data_target)
    config.schedule.protocol = "uniform"
    config.schedule.replay_fraction = None
    config.schedule.stage2_allocation = None
    config.analysis.published = "constant_mixture"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """33 runs for each seed: target x epochs."""
    epochs = {"schedule.target_epochs": EPOCHS}
    return repeated(grid(target_axis(scale, data_target), epochs), seeds)
