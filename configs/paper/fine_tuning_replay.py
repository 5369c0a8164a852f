"""How much target data is replay worth in fine-tuning (fresh optimizer, own cosine)?

The paper's fine-tuning sweep: pre-training and fine-tuning together take 1024 steps, so replay
steps are taken from pre-training; 64 epochs over one batch of target data; pre-training cosine
1e-3, fine-tuning cosine 3e-4. A multiplier needs the reference law: run paper/reference_law in the
same working directory, or paper/headline.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import cosine
from replay_jax.config.grid import grid
from replay_jax.config.paper import repeated, study_config, target_axis

# Stage 2 is 64 target steps times 1 / (1 - rho): 64, 72, 80, 96, 128, 192 and 256 steps.
REPLAY_FRACTIONS = [0.0, 1 / 9, 1 / 5, 1 / 3, 1 / 2, 2 / 3, 3 / 4]


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's fine-tuning settings."""
    config = study_config(scale, data_generic, data_target)
    config.schedule.protocol = "fine_tuning"
    config.schedule.target_epochs = 64.0
    config.schedule.learning_rate = cosine(1e-3)
    config.schedule.stage2_learning_rate = cosine(3e-4)
    config.schedule.stage2_optimizer = "reset"
    config.analysis.published = "fine_tuning"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """21 runs for each seed: target x rho."""
    targets = target_axis(scale, data_target)
    return repeated(grid(targets, {"schedule.replay_fraction": REPLAY_FRACTIONS}), seeds)
