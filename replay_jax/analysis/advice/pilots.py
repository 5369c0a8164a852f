"""From the answer of small pilots to the schedule of the large run that they stand for."""

from fractions import Fraction
from typing import Any

from replay_jax.analysis.advice.recommend import Recommendation
from replay_jax.analysis.advice.verdict import UNCLEAR
from replay_jax.errors import UserError

# Of the pilots alone: at full size the config's own stand.
_OF_SIZE = frozenset({"training.batch_size", "seed", "data_seed"})
_ROWS, _SIZES = "schedule.target_sequences", "schedule.batch_sizes"


def transfer(found: Recommendation, share: Fraction) -> dict[str, Any]:
    """Overrides of the large run: what the pilots recommend, its budget in the large run's rows.

    Args:
        found: of pilots that have a `share` of every batch and budget (`config.pilot`).

    Raises:
        UserError: the pilots cannot tell, with their first reason.
    """
    if found.verdict == UNCLEAR:
        raise UserError(f"the pilots cannot tell which replay fraction is best: {found.reasons[0]}")
    chosen = {key: value for key, value in found.overrides.items() if key not in _OF_SIZE}
    if _ROWS in chosen:
        chosen[_ROWS] = int(chosen[_ROWS] / share)
    if _SIZES in chosen:
        chosen[_SIZES] = [int(size / share) for size in chosen[_SIZES]]
    return chosen
