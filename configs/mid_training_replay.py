"""How much target data is replay worth in mid-training (replay only, alpha = 1)?

The paper's sweep for Figure 7, first column: three targets, rho in {0, .25, .5, .75, .875}, 4M
target tokens, 32 epochs, 1024 steps, one warmup-stable-decay schedule. Runs share C4 until they
branch. Published: best loss 3.428 FineMath, 3.027 StarCoder, 3.358 Flan against 3.569, 3.268,
3.444 without replay (arXiv 2603.04964; one seed). Cost: about 2.9e18 FLOP for one run; `plan`
says what is shared.
"""

from ml_collections import ConfigDict

from replay_jax.config.defaults import paper_config
from replay_jax.config.grid import grid

TARGETS = ["finemath", "starcoder", "flan"]
REPLAY_FRACTIONS = [0.0, 0.25, 0.5, 0.75, 0.875]


def get_config() -> ConfigDict:
    """The paper's mid-training settings; the defaults are exactly these."""
    return paper_config()


def sweep() -> list[dict]:
    """15 runs: target x rho."""
    return grid({"data.target": TARGETS}, {"schedule.replay_fraction": REPLAY_FRACTIONS})
