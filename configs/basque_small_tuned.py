"""The small Basque study with rate and epochs tuned together, at equal compute.

configs/basque_small.py holds one rate, which flatters the baseline: the best rate rises with the
replay fraction. Here, at 256 sequences, every replay fraction gets rates on both sides of its best
one, and epochs at those; without replay also up to 32 epochs, as many steps as replay at .75 takes
for 8. The other budgets, at the baseline's rate, are the reference curve.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

BASQUE_SMALL = config_module(Path(__file__).with_name("basque_small.py"))
BUDGET, RHO = "schedule.target_sequences", "schedule.replay_fraction"
PEAK, EPOCHS = "schedule.learning_rate.peak", "schedule.target_epochs"
# At 256 sequences: (replay fraction, peak learning rate) to epochs.
TRIED = {
    (0.0, 7.5e-4): [16.0, 32.0],
    (0.0, 1.5e-3): [8.0, 16.0, 32.0],
    (0.0, 3e-3): [4.0, 8.0, 16.0, 32.0],
    (0.0, 6e-3): [4.0, 8.0, 16.0, 32.0],
    (0.0, 1e-2): [4.0, 8.0],
    (0.5, 3e-3): [8.0],
    (0.5, 6e-3): [4.0, 8.0, 16.0],
    (0.5, 1e-2): [4.0, 8.0, 16.0],
    (0.5, 1.5e-2): [4.0, 8.0],
    (0.75, 6e-3): [4.0, 8.0],
    (0.75, 1e-2): [4.0, 8.0, 16.0],
    (0.75, 1.5e-2): [4.0, 8.0, 16.0],
    (0.75, 2e-2): [8.0],
}
REFERENCE = {128: [4.0, 8.0, 16.0], 512: [4.0, 8.0, 16.0], 1024: [4.0, 8.0, 16.0]}
BASELINE_PEAK = 6e-3


def get_config() -> ConfigDict:
    """As basque_small, but that the best rate is chosen too."""
    config = BASQUE_SMALL.get_config()
    config.name = "basque_small_tuned"
    config.analysis.tuned = (PEAK, EPOCHS)
    return config


def runs(budget: int, rho: float, peak: float, epochs: list[float]) -> list[dict]:
    """Every number of epochs at one budget, replay fraction and rate."""
    return grid({BUDGET: [budget], RHO: [rho], PEAK: [peak], EPOCHS: epochs})


def sweep() -> list[dict]:
    """42 settings, three orders of the data."""
    tried = chain(*(runs(256, *place, epochs) for place, epochs in TRIED.items()))
    curve = chain(*(runs(size, 0.0, BASELINE_PEAK, epochs) for size, epochs in REFERENCE.items()))
    seeds = zipped({"seed": BASQUE_SMALL.SEEDS, "data_seed": BASQUE_SMALL.SEEDS})
    return grid(seeds, chain(tried, curve))
