"""What is the loss of the reference recipe as target data grows?

Uniform mixing of 1, 2, 4, 8 and 16 batches of target data, 32 epochs, cosine 3e-3 (the paper's
reference law). Fit the records together with a candidate sweep in the same working directory, or
give the losses to `replay-jax fit`; the published points are in experiments/published_points.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import cosine, paper_config
from replay_jax.config.grid import grid

TARGETS = ["finemath", "starcoder", "flan"]
BATCHES = [1, 2, 4, 8, 16]


def get_config() -> ConfigDict:
    """Uniform mixing at constant proportion, the paper's reference recipe."""
    config = paper_config()
    config.schedule.protocol = "uniform"
    config.schedule.replay_fraction = None
    config.schedule.stage2_allocation = None
    config.schedule.learning_rate = cosine(3e-3)
    return config


def sweep() -> list[dict]:
    """15 runs: target x budget."""
    return grid(
        {"data.target": TARGETS}, {"schedule.target_sequences": [1024 * n for n in BATCHES]}
    )
