"""Is it replay, or would another knob have done the same?

Controls of mid-training on FineMath, each an axis of the sweep: epochs, peak learning rate,
cooldown length, weight decay up to 3.2, the learning-rate phase moved against the data phase, a
fresh optimizer or a new warmup at the boundary, and a constant mixture of the same rows (matched
exposure). The tied point rho = 1 - gamma with alpha = delta is the constant mixture itself
(tests/schedule/test_schedule.py).
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import warmup_stable_decay
from replay_jax.config.grid import chain, grid
from replay_jax.config.paper import repeated, study_config, target_axis

TARGETS = ("finemath",)
REPLAY_FRACTIONS = [0.0, 0.5]
RHO = "schedule.replay_fraction"


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """The paper's mid-training settings."""
    return study_config(scale, data_generic, data_target, TARGETS)


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1) -> list[dict]:
    """Each control at rho 0 and .5; the constant mixture at five numbers of epochs."""
    both = {RHO: REPLAY_FRACTIONS}
    epochs = grid(both, {"schedule.target_epochs": [8.0, 16.0, 32.0]})
    rates = grid(both, {"schedule.learning_rate.peak": [1e-3]})
    cooldowns = grid(both, {"schedule.learning_rate.decay_fraction": [0.0, 0.05, 0.2, 0.5]})
    decays = grid(both, {"optimizer.weight_decay": [0.0, 0.2, 0.4, 0.8, 1.6, 3.2]})
    boundary = grid(
        both,
        [
            {"schedule.stage2_optimizer": "reset"},
            {"schedule.stage2_learning_rate": warmup_stable_decay(3e-3, 0.9).to_dict()},
        ],
    )
    constant = grid(
        {"schedule.protocol": ["uniform"]},
        {RHO: [None]},
        {"schedule.stage2_allocation": [None]},
        {"schedule.target_epochs": [1.0, 4.0, 8.0, 16.0, 32.0]},
    )
    runs = chain(epochs, rates, cooldowns, decays, boundary, constant)
    return repeated(grid(target_axis(scale, data_target, TARGETS), runs), seeds)
