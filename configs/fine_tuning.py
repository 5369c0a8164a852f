"""How much target data is replay worth in fine-tuning (fresh optimizer, own cosine)?

The paper's fine-tuning sweep: pre-training and fine-tuning together take 1024 steps, so replay
steps are taken from pre-training; 64 epochs over 4M target tokens; pre-training cosine 1e-3,
fine-tuning cosine 3e-4. Published multipliers of the best rho over none: Flan 1.87, FineMath
1.49, StarCoder 1.09.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import cosine, paper_config
from replay_jax.config.grid import grid

TARGETS = ["finemath", "starcoder", "flan"]
# Stage 2 is 64 target steps times 1 / (1 - rho): 64, 72, 80, 96, 128, 192 and 256 steps.
REPLAY_FRACTIONS = [0.0, 1 / 9, 1 / 5, 1 / 3, 1 / 2, 2 / 3, 3 / 4]


def get_config() -> ConfigDict:
    """The paper's fine-tuning settings."""
    config = paper_config()
    config.schedule.protocol = "fine_tuning"
    config.schedule.target_epochs = 64.0
    config.schedule.learning_rate = cosine(1e-3)
    config.schedule.stage2_learning_rate = cosine(3e-4)
    config.schedule.stage2_optimizer = "reset"
    return config


def sweep() -> list[dict]:
    """21 runs: target x rho."""
    return grid({"data.target": TARGETS}, {"schedule.replay_fraction": REPLAY_FRACTIONS})
