"""Numbers of a `config.json`, which may be anything that JSON holds."""

import sys
from typing import Any

from replay_jax.errors import UserError


def positive(value: Any, words: str) -> float:
    """A finite number above 0; raises UserError that begins with the words otherwise."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # Not `value <= 0`: Python reads NaN from JSON, which is neither.
    # No more than a float holds: JSON has integers of any size.
    if not is_number or not 0 < value <= sys.float_info.max:
        raise UserError(f"{words} {value!r} in its config.json, which is no positive number")
    return float(value)


def positive_whole(value: Any, words: str) -> int:
    """An integer of at least 1; raises UserError that begins with the words otherwise."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{words} {value!r} in its config.json, which is no positive whole number")
    return value
