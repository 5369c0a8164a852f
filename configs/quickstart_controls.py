"""Is it replay, or would another knob have done the same?

The quickstart's own runs, and beside them at 4,096 target tokens, each with epochs tuned: a
constant mixture of the same rows, a fresh optimizer or a new warmup at the boundary, and a stronger
weight decay. Three paired seeds. In the quickstart's working directory only what is new is trained:

    replay-jax run configs/quickstart_controls.py --workdir=runs/quickstart

Result: experiments/quickstart_controls/README.md. Target rows before stage 2 are another question
(configs/early_target.py).
"""

from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.defaults import analysis, warmup_stable_decay
from replay_jax.config.grid import chain, grid, zipped
from replay_jax.config.recipe import config_module

QUICKSTART = config_module(Path(__file__).with_name("quickstart.py"))
WEIGHT_DECAY = 0.8
RHO, ALPHA = "schedule.replay_fraction", "schedule.stage2_allocation"
EPOCHS = "schedule.target_epochs"


def get_config() -> ConfigDict:
    """The quickstart's configuration, every knob a column of its own."""
    config = QUICKSTART.get_config()
    config.analysis = analysis(
        {
            RHO: 0.0,
            "schedule.stage2_optimizer": config.schedule.stage2_optimizer,
            "schedule.stage2_learning_rate": None,
            "optimizer.weight_decay": config.optimizer.weight_decay,
        }
    )
    return config


def sweep() -> list[dict]:
    """The quickstart's runs, the constant mixture, and the knobs at rho 0 and .75."""
    seeds = zipped({"seed": QUICKSTART.SEEDS, "data_seed": QUICKSTART.SEEDS})
    constant = grid(
        {"schedule.protocol": ["uniform"]},
        {ALPHA: [None]},
        {RHO: [None]},
        {EPOCHS: [16.0, 24.0, 32.0, 48.0]},
    )
    knobs = grid(
        [
            {"schedule.stage2_optimizer": "reset"},
            {"schedule.stage2_learning_rate": _new_warmup()},
            {"optimizer.weight_decay": WEIGHT_DECAY},
        ],
        {RHO: [0.0, 0.75]},
        {EPOCHS: [24.0, 32.0]},
    )
    return chain(QUICKSTART.sweep(), grid(seeds, chain(constant, knobs)))


def _new_warmup() -> dict:
    """The second stage's own schedule: a tenth of it warmup, then down to zero."""
    return {**warmup_stable_decay(1e-3, 0.9).to_dict(), "warmup_fraction": 0.1}
