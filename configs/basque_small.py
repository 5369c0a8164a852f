"""Does replaying English help a small English model to learn Basque from little data?

The paper's 8B question in small, with its protocol: training goes on from a finished model
(configs/basque_small_base.py), Basque and replayed English are mixed from the first step to the
last, fresh optimizer, cosine to zero, and replay lengthens the run: steps = target steps /
(1 - rho). Epochs are tuned at every budget and replay fraction, the learning rate for the baseline
without replay (experiments/basque_small). Judged by held-out losses and by two tasks made of
held-out documents (tools/continuation_task.py): which of four passages goes on from here?
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis, continual_schedule, cosine
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

BASE = config_module(Path(__file__).with_name("basque_small_base.py"))
SEEDS = [1, 2, 3]
# Epochs to try at every budget (sequences).
EPOCHS = {
    128: [4.0, 8.0, 16.0],
    256: [4.0, 8.0, 16.0],
    512: [2.0, 4.0, 8.0, 16.0],
    1024: [2.0, 4.0, 8.0, 16.0],
}
REPLAYED = {256: [0.5, 0.75], 512: [0.5, 0.75]}


def get_config() -> ConfigDict:
    """The baseline: Basque alone."""
    config = BASE.get_config()
    config.name = "basque_small"
    config.initial_weights = "runs/basque_small_base/model"
    config.tasks = {name: f"runs/tasks/{name}.jsonl" for name in ("basque", "english")}
    config.schedule = continual_schedule(cosine(3e-3))
    config.schedule.target_sequences, config.schedule.target_epochs = 256, 8.0
    config.training.log_every, config.training.evaluate_every = 16, 0
    config.checkpoint.every = 0
    config.analysis = analysis({"replay_fraction": 0.0})
    return config


def runs(budget: int, rho: float) -> list[dict]:
    """Every number of epochs at one budget and replay fraction."""
    return grid(
        {"schedule.target_sequences": [budget], "schedule.replay_fraction": [rho]},
        {"schedule.target_epochs": EPOCHS[budget]},
    )


def sweep() -> list[dict]:
    """Four budgets without replay, two of them with it, three orders of the data."""
    baseline = chain(*(runs(budget, 0.0) for budget in EPOCHS))
    replay = chain(*(runs(budget, rho) for budget, rhos in REPLAYED.items() for rho in rhos))
    return grid(zipped({"seed": SEEDS, "data_seed": SEEDS}), chain(baseline, replay))
