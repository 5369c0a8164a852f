"""Does replay help a small model to become a web agent that has seen few turns?

The small base (configs/practice_base.py) learns to answer a shopper's words with the action that
types a query into the page's search box: turns of WebLINX's form, loss on the action alone, made of
WebShop's instructions and the queries that people typed. Replayed is generic text, or what is named
in its place. All else is as in configs/practice_instructions.py. Judged by held-out losses, by an
English task, and by turn scores of what the models write (experiments/practice_web).

    replay-jax run configs/practice_web.py --config.everything=True --budget=2.3e13flops
    replay-jax run configs/practice_web.py

On seeds that had no part in the choice, none and the best: --config.fresh=True.
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import Overrides, grid
from replay_jax.config.recipe import config_module

STUDY = config_module(Path(__file__).with_name("practice_instructions.py"))
BASE, RHO, EPOCHS, PEAK = STUDY.BASE, STUDY.RHO, STUDY.EPOCHS, STUDY.PEAK
BUDGET, PEAKS = 128, [5e-4, 1e-3, 2e-3]
FEW, MANY = [1.0, 2.0, 4.0], 8.0
CHOSEN, PEAK_CHOSEN = [(0.0, 4.0), (0.25, 4.0), (0.5, 4.0), (0.75, 4.0)], 1e-3


def get_config(
    data_generic: str = "data/generic.jsonl.gz",
    data_target: str = "runs/practice/turns-train.jsonl",
    data_validation: str = "runs/practice/turns-valid.jsonl",
    initial_weights: str = "runs/practice_base/model",
) -> ConfigDict:
    """Turns alone."""
    config = BASE.get_config(data_generic)
    config.name = "practice_web"
    held_out = {"validation_path": data_validation, "validation_fraction": 0.0}
    config.data.sources = {
        "english": BASE.generic(data_generic),
        "turns": BASE.conversations(data_target, **held_out),
    }
    config.data.target = "turns"
    STUDY.go_on(config, initial_weights, BUDGET)
    return config


def sweep(everything: bool = False, fresh: bool = False) -> list[Overrides]:
    """12 runs, or the 117 of the grid, or 8 on fresh seeds."""
    if fresh:
        return grid(STUDY.FRESH, STUDY.chosen([CHOSEN[0], CHOSEN[-1]], PEAK_CHOSEN))
    compared = STUDY.chosen(CHOSEN, PEAK_CHOSEN)
    return grid(STUDY.SEEDS, STUDY.grid_of(FEW, MANY, PEAKS) if everything else compared)
