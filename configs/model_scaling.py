"""Does the value of replay change with model size?

The paper's model scaling: 150M to 1.9B at the same 4.3B tokens, FineMath, alpha = 1, learning
rate 3e-3 times the inverse width.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import model_sizes, paper_config
from replay_jax.config.grid import grid, zipped

# Inverse width relative to 150m (the authors' code: 1, 1/1.5, 1/2, 1/4).
PEAKS = {"150m": 3e-3, "300m": 2e-3, "600m": 1.5e-3, "1_9b": 7.5e-4}


def get_config() -> ConfigDict:
    """The paper's mid-training settings."""
    return paper_config()


def sweep() -> list[dict]:
    """20 runs: model x rho."""
    models = zipped(
        {
            "model": [model_sizes(name).to_dict() for name in PEAKS],
            "schedule.learning_rate.peak": list(PEAKS.values()),
        }
    )
    return grid(models, {"schedule.replay_fraction": [0.0, 0.25, 0.5, 0.75, 0.875]})
