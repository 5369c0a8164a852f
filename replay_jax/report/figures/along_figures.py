"""The gain of replay along an axis of the study, whatever axis that is: one figure for each."""

from collections.abc import Sequence

import altair as alt

from replay_jax.analysis.advice.along import Axis, axes_of
from replay_jax.analysis.study.axes import TOKENS, as_number
from replay_jax.analysis.study.selection import short
from replay_jax.analysis.study.study import Study
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.words import level_words
from replay_jax.report.figures.encodings import (
    HEIGHT,
    TARGET_TOKENS,
    Chart,
    Row,
    colours_of,
    data,
    loss_axis,
    series_names,
    tip,
)
from replay_jax.report.figures.study_figures import file_name

GAIN = "gain by replay (nats per token)"
# More lines than colours could not be told apart.
_MOST_LINES = 6
# From this ratio on, numbers are told apart on a log axis.
_WIDE = 3.0
_THOUSANDS = 1000.0


def along_figures(study: Study) -> tuple[Figure, ...]:
    """One figure for every axis along which gains can be compared."""
    return tuple(_figure(axis, study.level) for axis in axes_of(study))


def _figure(axis: Axis, level: float) -> Figure:
    shown = axis.lines[:_MOST_LINES]
    rows: list[Row] = []
    seeds: list[Row] = []
    for line in shown:
        for each in line.gains:
            number = as_number(each.value)
            at = {"series": line.label or "gain", "value": each.value if number is None else number}
            seeds += [{**at, "gain": gain} for gain in each.gain_by_seed]
            rows.append(
                {
                    **at,
                    "gain": each.gain.value,
                    "low": each.gain.low,
                    "high": each.gain.high,
                    "rho": each.replay_fraction,
                    "without": each.baseline_loss,
                    "with": each.replay_loss,
                }
            )
    left_out = len(axis.lines) - len(shown)
    more = f" {left_out} further lines are in the table only." if left_out else ""
    bars = (
        f" Bars: {level_words(level)}s."
        if any(row["low"] is not None for row in rows)
        else " Along a tuned key a study has no interval; the dots show how far seeds differ. "
        "Both are at the best of what both ran there."
    )
    return Figure(
        name=file_name("along", axis.key),
        title=f"What replay gains, by {short(axis.key)}",
        caption=(
            "Held-out target loss without replay less that of the best schedule that replays, at "
            "the same allocation and all else equal; above zero replay helps. Small dots are "
            f"single seeds, paired.{bars}{more}"
        ),
        chart=along_chart(
            rows, seeds, title=TARGET_TOKENS if axis.key == TOKENS else short(axis.key)
        ),
        target=None,
    )


def along_chart(rows: Sequence[Row], seeds: Sequence[Row], *, title: str) -> Chart:
    """Return the gain against an axis: bars for intervals, dots for seeds.

    A line joins the gains of a series where the values of the axis are numbers.

    Rows: {series, value, gain, low, high, rho, without, with}, `low` and `high` None where there
    is no interval; seeds {series, value, gain}.
    """
    values = [row["value"] for row in rows]
    measured = all(isinstance(value, float) for value in values)
    x = value_axis(values, title) if measured else word_axis(title)
    colour, shape = colours_of(series_names(rows), title=None)
    if len(series_names(rows)) == 1:
        colour, shape = colour.legend(None), shape.legend(None)
    tips = [
        tip("series", "with"),
        tip("gain", "gain, nats per token", ".3f"),
        tip("low", "from", ".3f"),
        tip("high", "to", ".3f"),
        tip("rho", "replay fraction", ".4~f"),
        tip("without", "no replay, nats per token", ".3f"),
        tip("with", "best replay, nats per token", ".3f"),
    ]
    # Over a word the series would lie on each other.
    beside = alt.Undefined if measured else alt.XOffset("series:N", sort=None)
    base = alt.Chart(data(rows)).encode(x=x, color=colour, xOffset=beside)
    # A layer without a row has no extent.
    known = [row for row in rows if row["low"] is not None and row["high"] is not None]
    bars = alt.Chart(data(known)).mark_rule(strokeWidth=3, opacity=0.4)
    spread = bars.encode(x=x, color=colour, y=loss_axis("low", GAIN), y2="high:Q", xOffset=beside)
    zero = (
        alt.Chart(data([{"gain": 0.0}])).mark_rule(style="guide").encode(y=loss_axis("gain", GAIN))
    )
    return alt.layer(
        zero,
        *([spread] if known else []),
        # No line joins words: there is nothing between them.
        *([base.mark_line().encode(y=loss_axis("gain", GAIN))] if measured else []),
        alt.Chart(data(seeds)).mark_point(size=26, opacity=0.55).encode(
            x=x, y=loss_axis("gain", GAIN), color=colour, xOffset=beside
        ),
        base.mark_point(size=85, filled=True).encode(
            y=loss_axis("gain", GAIN), shape=shape, tooltip=tips
        ),
    ).properties(height=HEIGHT)  # fmt: skip


def word_axis(title: str) -> alt.X:
    """An axis of words, in the order of the rows, each part of a value on a line of its own."""
    axis = alt.Axis(labelAngle=0, labelLimit=0, labelExpr="split(datum.label, ', ')")
    return alt.X("value", type="nominal", title=title, sort=None, axis=axis)


def value_axis(numbers: Sequence[float], title: str) -> alt.X:
    """Numbers with a tick at each, on a log axis where they lie wide apart."""
    axis = alt.Axis(
        values=sorted(set(numbers)),
        format="," if max(numbers) >= _THOUSANDS else ".4~g",
        labelOverlap=True,
        grid=False,
    )
    return alt.X("value", type="quantitative", title=title, scale=_value_scale(numbers), axis=axis)


def _value_scale(numbers: Sequence[float]) -> alt.Scale:
    """Logarithmic where values lie wide apart, and about zero where zero is one of them."""
    least = min((number for number in numbers if number > 0), default=0.0)
    wide = least > 0 and max(numbers) / least >= _WIDE
    if wide and min(numbers) == 0:
        return alt.Scale(type="symlog", constant=least, nice=False, padding=14)
    if wide:  # has no zero to be kept or dropped, and Vega says so
        return alt.Scale(type="log", nice=False, padding=14)
    return alt.Scale(type="linear", nice=False, zero=False, padding=14)
