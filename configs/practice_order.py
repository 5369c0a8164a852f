"""Is it the replay, or that the base goes on with generic text at all?

A control of configs/practice_instructions.py: as many steps as its best replay takes (256), all of
the generic rows first and then the conversations alone, in the epochs and at the rate that are best
without replay. Each stage has a cosine and an optimizer of its own.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import cosine
from replay_jax.config.recipe import config_module

STUDY = config_module(Path(__file__).with_name("practice_instructions.py"))
STEPS, EPOCHS, PEAK = 256, 4.0, 2e-3


def get_config(
    data_generic: str = "data/generic.jsonl.gz",
    data_target: str = "runs/practice/chats.jsonl",
    initial_weights: str = "runs/practice_base/model",
) -> ConfigDict:
    """Generic text, then conversations."""
    config = STUDY.get_config(data_generic, data_target, initial_weights)
    config.name = "practice_order"
    config.schedule.update({"protocol": "fine_tuning", "total_steps": STEPS})
    config.schedule.update({"target_epochs": EPOCHS, "stage2_optimizer": "reset"})
    config.schedule.learning_rate = cosine(PEAK)
    config.schedule.stage2_learning_rate = cosine(PEAK)
    config.analysis.tuned = (STUDY.EPOCHS,)
    return config


def sweep() -> list[dict]:
    """Three orders of the data."""
    return STUDY.SEEDS
