"""What is the loss of the reference recipe as target data grows?

Uniform mixing of 1, 2, 4, 8 and 16 batches of target data, 32 epochs, cosine 3e-3 (the paper's
reference law). Run a sweep of candidates in the same working directory, or give the losses to
`replay-jax fit`; the published points are in experiments/published_points.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import cosine
from replay_jax.config.grid import grid
from replay_jax.config.paper import batches, repeated, study_config, target_axis

BATCHES = [1, 2, 4, 8, 16]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """Uniform mixing at constant proportion, the paper's reference recipe."""
    config = study_config(scale, data_generic, data_target)
    config.schedule.protocol = "uniform"
    config.schedule.replay_fraction = None
    config.schedule.stage2_allocation = None
    config.schedule.learning_rate = cosine(3e-3)
    config.analysis.published = "reference_law"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """15 runs for each seed: target x budget."""
    budgets = {"schedule.target_sequences": batches(scale, BATCHES)}
    return repeated(grid(target_axis(scale, data_target), budgets), seeds)
