"""Is the baseline better with four times the generic data?

The same batch of target data, 64 epochs, no replay, warmup-stable-decay 1e-3, in 4096 steps; beside
it in 1024, which the authors did not run with these settings.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis, warmup_stable_decay
from replay_jax.config.grid import grid
from replay_jax.config.paper import repeated, study_config, target_axis


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """Mid-training, four times as long."""
    config = study_config(scale, data_generic, data_target)
    if scale != "tiny" and not data_generic:
        config.data.sources.c4.train_fraction *= 4
    config.schedule.target_epochs = 64.0
    config.schedule.learning_rate = warmup_stable_decay(1e-3)
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.published = "longer_run"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """6 runs for each seed: target x length."""
    lengths = {"schedule.total_steps": [1024, 4096]}
    return repeated(grid(target_axis(scale, data_target), lengths), seeds)
