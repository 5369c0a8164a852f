"""Numbers in words: every value with its interval, its unit, and what is wrong with it."""

from replay_jax.analysis.statistics.bootstrap import Interval

NONE = "–"
EXTRAPOLATED = "†"


def between(value: Interval | None, form: str) -> str:
    """A value with its interval, such as "2.06 (1.70–2.49)"; † marks extrapolation.

    A bound that is not known is written "no bound", an interval that is not known not at all, and
    a value that is not a number as a dash.
    """
    if value is None or value.value is None:
        return NONE
    mark = EXTRAPOLATED if value.extrapolated else ""
    return f"{value.value:{form}}{mark}{_bounds(value, form)}"


def times(value: Interval | None, *, bounds: bool = True) -> str:
    """A multiplier, such as "2.06× (1.70–2.49)", or without its interval.

    Where nothing bounds it above, any one number would be made up: "at least 1.70×".
    """
    if value is None or value.value is None:
        return NONE
    mark = EXTRAPOLATED if value.extrapolated else ""
    if value.high is None and value.low is not None:
        return f"at least {value.low:.2f}×{mark}"
    return f"{value.value:.2f}×{mark}" + (_bounds(value, ".2f") if bounds else "")


def between_words(value: Interval, form: str) -> str:
    """Only the interval, such as "1.70–2.49"; empty where it is not known."""
    return _bounds(value, form).strip(" ()")


def level_words(level: float) -> str:
    """The level of an interval, such as "90 % interval"."""
    return f"{100 * level:g} % interval"


def signed(value: Interval | None) -> str:
    """A difference in nats per token with its sign, such as "−0.130 (−0.160 to −0.100)"."""
    return between(value, "+z.3f").replace("-", "−")


def bits_words(nats: float | None, bits_per_nat: float | None) -> str:
    """A change in nats per token as one in bits per byte, after it; empty where that is unknown."""
    if nats is None or bits_per_nat is None:
        return ""
    return f" · {nats * bits_per_nat:+z.3f} bits per byte".replace("-", "−")


def share(value: float | None) -> str:
    """A share of one as a percentage."""
    return NONE if value is None else f"{100 * value:.0f} %"


def number(value: float | None, form: str = ",.6g") -> str:
    """A number for a table; a dash for what is not known; whole numbers with separators."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:{form}}"


def seconds(value: float) -> str:
    """A duration in the unit that fits: seconds, minutes or hours."""
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def count(value: int, noun: str) -> str:
    """A count with its noun, such as "1 seed" or "3 seeds"."""
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def _bounds(value: Interval, form: str) -> str:
    if value.low is None and value.high is None:
        return ""
    low = "no lower bound" if value.low is None else f"{value.low:{form}}"
    high = "no upper bound" if value.high is None else f"{value.high:{form}}"
    joined = f"{low} to {high}" if form.startswith("+") or None in (value.low, value.high) else ""
    return f" ({joined or f'{low}–{high}'})"
