"""What `--budget` and `--until` say."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from replay_jax.analysis.budget.goal import Goal
from replay_jax.errors import UserError
from replay_jax.sweep.drive.durations import duration

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_NUMBER = r"(\d*\.?\d+(?:e\+?\d+)?)"


@dataclass(frozen=True)
class Allowance:
    """How much may be spent, and of what: train steps, model FLOPs of training, or seconds."""

    amount: float
    unit: Literal["steps", "FLOPs", "seconds"]

    @property
    def words(self) -> str:
        """The amount with its unit."""
        return said(self.amount, self.unit)


def said(amount: float, unit: str) -> str:
    """An amount of a unit in words."""
    if unit == "seconds":
        return duration(amount)
    return f"{amount:,.0f} steps" if unit == "steps" else f"{amount:.3g} FLOPs"


def allowance(text: str | None) -> Allowance:
    """The budget of a command; None is none.

    Raises:
        UserError: it is neither a time nor FLOPs nor steps.
    """
    if text is None:
        return Allowance(math.inf, "steps")
    match = re.fullmatch(_NUMBER + r"\s*(steps|flops|s|m|min|h|d)", text.strip().lower())
    if match is None or not 0 < float(match[1]) < math.inf:
        raise UserError(
            f"--budget={text} is no time (90m, 2h), no FLOPs (3e15flops) and no number of steps "
            "(2000steps)"
        )
    amount, unit = float(match[1]), match[2]
    if unit in _SECONDS:
        return Allowance(amount * _SECONDS[unit], "seconds")
    return Allowance(amount, "FLOPs" if unit == "flops" else "steps")


def goal(text: str | None) -> Goal:
    """What ends a study before its budget does; None is a verdict on every answer.

    Raises:
        UserError: it names no width of an interval.
    """
    if text is None:
        return Goal("verdict")
    match = re.fullmatch(r"interval\s*<\s*" + _NUMBER + r"\s*(x|nats?)", text.strip().lower())
    least = 0.0
    if match is not None:
        kind: Literal["x", "nat"] = "x" if match[2] == "x" else "nat"
        least = 1.0 if kind == "x" else 0.0
        if least < float(match[1]) < math.inf:
            return Goal(kind, float(match[1]))
    raise UserError(
        f"--until='{text}' is not understood: write 'interval < 1.3x' (the upper end of every "
        "multiplier less than 1.3 times the lower) or 'interval < 0.08 nat' (of every gain)"
    )
