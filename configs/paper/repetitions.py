"""How often can target data be repeated at the end of pre-training, at a constant learning rate?

As the authors ran it: four batches of FineMath and StarCoder in 1,000 steps at 3e-3 (of their
epochs 32 and 64 are known, smaller ones are ours), and sixteen batches of StarCoder in 1024 steps
at two rates. No replay, all target data at the end. They chose 32 epochs.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis, warmup_stable_decay
from replay_jax.config.grid import chain, grid
from replay_jax.config.paper import batches, repeated, study_config, target_axis

TARGETS = ("finemath", "starcoder")
EPOCHS = "schedule.target_epochs"
PEAK = "schedule.learning_rate.peak"


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """Mid-training without cooldown."""
    config = study_config(scale, data_generic, data_target, TARGETS)
    config.schedule.learning_rate = warmup_stable_decay(3e-3, 0.0)
    config.analysis = analysis({"schedule.replay_fraction": 0.0})
    config.analysis.published = "repetitions"
    return config


def sweep(scale: str = "full", data_target: str = "", seeds: int = 1, after: int = 0) -> list[dict]:
    """20 runs for each seed: 12 of four batches, 8 of sixteen; `after` seeds are passed over."""
    four, sixteen = batches(scale, [4, 16])
    targets = target_axis(scale, data_target, TARGETS)
    last = {"data.target": targets["data.target"][-1:]}
    few = [{"schedule.target_sequences": four, "schedule.total_steps": 1000, PEAK: 3e-3}]
    many = [{"schedule.target_sequences": sixteen, "schedule.total_steps": 1024}]
    runs = chain(
        grid(targets, few, {EPOCHS: [2.0, 4.0, 8.0, 16.0, 32.0, 64.0]}),
        grid(last, many, {PEAK: [1e-3, 3e-3]}, {EPOCHS: [4.0, 8.0, 16.0, 32.0]}),
    )
    return repeated(runs, seeds, after=after)
