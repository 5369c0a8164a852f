"""What all charts share: how rows become data, and how losses, series and tooltips are encoded.

Rows are dicts of JSON values, so that a chart's data can be read in the page as they are. Losses
are nats per token, budgets are tokens, `rho` is the replay fraction and `alpha` the allocation.
"""

import json
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import altair as alt

Row = Mapping[str, Any]
Chart = alt.LayerChart | alt.FacetChart

TARGET_LOSS = "target loss, held out (nats per token)"
GENERIC_LOSS = "generic loss, held out (nats per token)"
REPLAY = "replay fraction ρ (generic share)"
TARGET_TOKENS = "unique target data (tokens)"
HEIGHT = 340
# A legend's letter and its symbol with the gap after an entry, and its width in the narrowest chart
# but a phone's (report.js takes fewer columns there), in pixels; letters of a line.
_LETTER, _SYMBOL, _LEGEND_WIDTH, _LEGEND_LETTERS = 6.4, 40, 660, 40


def data(rows: Sequence[Row]) -> alt.InlineData:
    """Rows as inline data of a chart, in a tuple, which Altair does not copy with every layer."""
    return alt.InlineData(values=tuple(dict(row) for row in rows))


def loss_axis(field: str, title: str, *, room: int = 10) -> alt.Y:
    """A loss axis: titled with its unit, not forced to zero, `room` pixels above and below."""
    scale = alt.Scale(zero=False, nice=False, padding=room)
    axis = alt.Axis(tickCount=8)
    return alt.Y(field, type="quantitative", title=title, scale=scale, axis=axis)


def colours_of(names: Sequence[str], *, title: str | None) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape of the field `series`, in the order of `names`; the theme holds both."""
    shown = _legend(names, title)
    return (
        alt.Color(
            "series:N",
            scale=alt.Scale(domain=list(names), range="category"),
            legend=shown,
            sort=None,
        ),
        alt.Shape(
            "series:N", scale=alt.Scale(domain=list(names), range="symbol"), legend=shown, sort=None
        ),
    )


def _legend(names: Sequence[str], title: str | None) -> alt.Legend:
    """As many entries in a row as the chart has room for, long names on several lines."""
    lines = {name: wrap(name, _LEGEND_LETTERS) or [""] for name in names}
    longest = max((len(line) for words in lines.values() for line in words), default=0)
    entry = _LETTER * longest + _SYMBOL
    several = any(len(words) > 1 for words in lines.values())
    return alt.Legend(
        title=title,
        symbolDash=[1, 0],
        columns=max(1, int(_LEGEND_WIDTH / entry)),
        labelExpr=f"({json.dumps(lines)})[datum.label]" if several else alt.Undefined,
    )


def series_names(rows: Sequence[Row]) -> list[str]:
    """The different values of `series`, in the order of the rows."""
    return list(dict.fromkeys(str(row["series"]) for row in rows))


def tip(field: str, title: str, form: str | None = None) -> alt.Tooltip:
    """One line of a tooltip; `form` is a d3 number format, None for words."""
    if form is None:
        return alt.Tooltip(field, type="nominal", title=title)
    return alt.Tooltip(field, type="quantitative", title=title, format=form)


def replay_axis(rows: Sequence[Row]) -> alt.X:
    """The replay fraction, with a tick at 0, at every value that was run, and none between."""
    values = sorted({0.0, *(float(row["rho"]) for row in rows)})
    axis = alt.Axis(values=values, format=".4~f", labelOverlap=True)
    scale = alt.Scale(nice=False, zero=True, padding=14)
    return alt.X("rho:Q", title=REPLAY, axis=axis, scale=scale)


def token_axis(field: str, budgets: Sequence[float]) -> alt.X:
    """Target tokens on a log axis, with a tick at every measured budget."""
    axis = alt.Axis(
        values=list(budgets), format=",", labelOverlap="greedy", labelSeparation=6, grid=False
    )
    scale = alt.Scale(type="log", nice=False, padding=12)
    return alt.X(field, type="quantitative", title=TARGET_TOKENS, axis=axis, scale=scale)
