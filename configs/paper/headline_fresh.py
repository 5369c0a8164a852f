"""Does what paper/headline picked hold on seeds that had no part in the picking?

Of each target the best replay fraction there against none and against a constant mixture of the
same rows, and its best in fine-tuning against none; beside them the best weight decay of
paper/weight_decay without replay. Nothing is chosen here: the fractions are those given, as
`--config.rho=7/8,1/2,1/2 --config.fine_tuning_rho=3/4,3/4,1/3` in the order of the targets, or
one for all.
"""

from fractions import Fraction
from pathlib import Path

from ml_collections import ConfigDict

from replay_jax.config.grid import chain, grid
from replay_jax.config.paper import batches, repeated, target_axis
from replay_jax.config.recipe import config_module
from replay_jax.errors import UserError

HEADLINE = config_module(Path(__file__).with_name("headline.py"))
SEEDS_OF_THE_HEADLINE = 3


def get_config(scale: str = "full", data_generic: str = "", data_target: str = "") -> ConfigDict:
    """As the headline."""
    config: ConfigDict = HEADLINE.get_config(scale, data_generic, data_target)
    return config


def sweep(
    scale: str = "full",
    data_target: str = "",
    seeds: int = 4,
    rho: str = "1/2",
    fine_tuning_rho: str = "3/4",
    weight_decay: float = 0.4,
) -> list[dict]:
    """6 runs for each seed and target: two without replay, the decay, a mixture, two that replay.

    Raises:
        UserError: fractions that cannot be read, or neither one nor as many as there are targets.
    """
    targets = target_axis(scale, data_target)["data.target"]
    mid = _fractions("rho", rho, targets)
    fine = _fractions("fine_tuning_rho", fine_tuning_rho, targets)
    runs = chain(
        *(
            grid({"data.target": [target]}, _of_a_target(scale, *picked, weight_decay))
            for target, *picked in zip(targets, mid, fine, strict=True)
        )
    )
    return repeated(runs, seeds, after=SEEDS_OF_THE_HEADLINE)


def _of_a_target(scale: str, mid: float, fine: float, decay: float) -> list[dict]:
    plain = {HEADLINE.RHO: 0.0}
    return chain(
        [plain, {**plain, "optimizer.weight_decay": decay}, {HEADLINE.RHO: mid}],
        HEADLINE.uniform(batches(scale, [1])),
        HEADLINE.fine_tuning([0.0, fine]),
    )


def _fractions(name: str, text: str, targets: list[str]) -> list[float]:
    """Replay fractions of the targets, of "1/2" or "7/8,1/2,1/2"."""
    try:
        found = [float(Fraction(part)) for part in str(text).split(",")]
    except (ValueError, ZeroDivisionError):
        raise UserError(f"{name} must be fractions such as 7/8,1/2, not {text!r}") from None
    found = found * len(targets) if len(found) == 1 else found
    if len(found) != len(targets):
        raise UserError(
            f"{name} has {len(found)} fractions for {len(targets)} targets "
            f"({', '.join(targets)}): give one, or one of each"
        )
    return found
