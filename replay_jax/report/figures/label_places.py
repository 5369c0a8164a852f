"""Where a label of the figure of worth stands: where it lies on no line and on no dot."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import altair as alt

from replay_jax.report.figures.encodings import Row

# Height of a line of a label in pixels, and the lines below the first, at which a label hangs.
_LINE = 14.0
_MORE = "(length(split(datum.label, '\\n')) - 1)"
# Tried in this order: of what amount a label stands, and how. Beginning at the schedule's own point
# it has most room on a phone; else it is beyond the interval of its worth, or before its point.
PLACES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "above": ("tokens", {"align": "left", "dx": 10, "dy": alt.ExprRef(f"-10 - {_LINE} * {_MORE}"),
                         "baseline": "bottom"}),
    "below": ("tokens", {"align": "left", "dx": 10, "dy": 10, "baseline": "top"}),
    "beyond": ("equivalent_high", {"align": "left", "dx": 10, "baseline": "middle",
                                   "dy": alt.ExprRef(f"-{_LINE} / 2 * {_MORE}")}),
    "over": ("equivalent_high", {"align": "left", "dx": 10, "baseline": "bottom",
                                 "dy": alt.ExprRef(f"-{_LINE} * {_MORE}")}),
    "before": ("tokens", {"align": "right", "dx": -10, "baseline": "middle",
                          "dy": alt.ExprRef(f"-{_LINE} / 2 * {_MORE}")}),
}  # fmt: skip
# Widths of a chart on a page and on a phone, which is any below the middle one, and its height, in
# pixels.
_PAGE, _NARROW, _PHONE, _HEIGHT = 640.0, 450, 290.0, 400.0
_LETTER = 6.4
# From a point to its label, and how near to a line or a dot a label may come.
_GAP, _CLEAR = 10.0, 7.0
_STEPS = 60

Point = tuple[float, float]


@dataclass(frozen=True)
class _Frame:
    """A chart's amounts and losses as pixels, from its lower left."""

    width: float
    tokens: tuple[float, float]
    losses: tuple[float, float]

    def at(self, tokens: float, loss: float) -> Point:
        (first, last), (low, high) = self.tokens, self.losses
        across = log(tokens / first) / (log(last / first) or 1)
        return across * self.width, (loss - low) / ((high - low) or 1) * _HEIGHT


def placed(
    candidates: Sequence[Row], curve: Sequence[Row], reference: Sequence[Row]
) -> list[dict[str, object]]:
    """Candidates with the `place` of their label on a page, and the `narrow` one of a phone.

    There a `short` label stands: of two multipliers without what they are over and their intervals.
    """
    rows = [*candidates, *curve, *reference]
    reach = [_reach(row) for row in candidates if row["label"]]
    tokens = [float(row["tokens"]) for row in rows] + [x for ends in reach for x in ends]
    losses = [float(row[key]) for row in rows for key in ("loss", "low", "high")
              if row.get(key) is not None]  # fmt: skip
    found = [
        {**row, "short": re.sub(r"( \(.*\))? over .*", "", row["label"])} for row in candidates
    ]
    for key, label, width in (("place", "label", _PAGE), ("narrow", "short", _PHONE)):
        frame = _Frame(width, _span(tokens), _span(losses))
        taken = list(_drawn(frame, candidates, curve, reference))
        for row in found:
            row[key] = ""
            if row["label"]:
                row[key] = min(PLACES, key=lambda p: _hits(frame, row, row[label], p, taken))
                left, right, low, high = _box(frame, row, row[label], row[key])
                taken += [(x, y) for x in _steps(left, right) for y in (low, high)]
    return found


def said_at(place: str) -> str:
    """The expression of what stands at a place: the label that belongs there at this width."""
    page, phone = (f"datum.{at} === '{place}' ? datum.{label} : ''"
                   for at, label in (("place", "label"), ("narrow", "short")))  # fmt: skip
    return f"width < {_NARROW} ? ({phone}) : ({page})"


def _drawn(
    frame: _Frame, candidates: Sequence[Row], curve: Sequence[Row], reference: Sequence[Row]
) -> Iterator[Point]:
    """Points on everything that is drawn."""
    for row in (*candidates, *curve, *reference):
        yield frame.at(row["tokens"], row["loss"])
    for one, other in zip(curve, curve[1:], strict=False):
        (x, y), (to_x, to_y) = (frame.at(row["tokens"], row["loss"]) for row in (one, other))
        yield (x + to_x) / 2, (y + to_y) / 2
    for row in candidates:
        if row["label"]:
            left, right = (frame.at(x, row["loss"])[0] for x in _reach(row))
            for x in _steps(left, right):
                yield x, frame.at(row["tokens"], row["loss"])[1]


def _hits(frame: _Frame, row: Row, label: str, place: str, taken: Sequence[Point]) -> int:
    """How much a label lies on; beyond the chart's edge counts as all of it."""
    left, right, low, high = _box(frame, row, label, place)
    if left < 0 or right > frame.width or low < 0 or high > _HEIGHT:
        return len(taken)
    return sum(
        left - _CLEAR < x < right + _CLEAR and low - _CLEAR < y < high + _CLEAR for x, y in taken
    )


def _box(frame: _Frame, row: Row, label: str, place: str) -> tuple[float, float, float, float]:
    """Left, right, lower and upper end of a label, in pixels."""
    lines = label.split("\n")
    width, height = _LETTER * max(map(len, lines)), _LINE * len(lines)
    x, y = frame.at(row["tokens"], row["loss"])
    if place == "above":
        return x + _GAP, x + _GAP + width, y + _GAP, y + _GAP + height
    if place == "below":
        return x + _GAP, x + _GAP + width, y - _GAP - height, y - _GAP
    end = frame.at(row["equivalent_high"], row["loss"])[0] + _GAP
    if place == "beyond":
        return end, end + width, y - height / 2, y + height / 2
    if place == "over":
        return end, end + width, y, y + height
    return x - _GAP - width, x - _GAP, y - height / 2, y + height / 2


def _reach(row: Row) -> tuple[float, float]:
    ends = [row[key] for key in ("tokens", "start", "equivalent_low", "equivalent_high")]
    return min(ends), max(ends)


def _span(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _steps(first: float, last: float) -> list[float]:
    return [first + (last - first) * step / _STEPS for step in range(_STEPS + 1)]
