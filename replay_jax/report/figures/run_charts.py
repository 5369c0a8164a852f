"""Charts of what happened inside the runs: training curves and the stage boundary.

Plain rows in, an Altair chart out, as in `charts.py`. Steps are completed updates.
"""

from collections.abc import Sequence

import altair as alt

from replay_jax.report.figures.encodings import (
    HEIGHT,
    Chart,
    Row,
    colours_of,
    data,
    loss_axis,
    replay_axis,
    series_names,
    tip,
)

RUN_TIPS = (("series", "replay fraction"), ("setting", "setting"))


def training_chart(rows: Sequence[Row], boundaries: Sequence[Row], *, loss_title: str) -> Chart:
    """Return held-out loss (solid) and training loss (dashed) against steps, one colour per rho.

    Rows: {series, step, loss, measured "held out" | "training", setting, seed, run}; boundaries
    {series, step} mark where stage 2 starts.
    """
    colour, _ = colours_of(series_names(rows), title="replay fraction ρ")
    step = alt.X(
        "step:Q",
        title="step (completed updates)",
        scale=alt.Scale(nice=False),
        axis=alt.Axis(tickCount=8, format="~s"),
    )
    dash = alt.StrokeDash(
        "measured:N",
        title=None,
        scale=alt.Scale(domain=["held out", "training"], range=[[1, 0], [3, 3]]),
        legend=alt.Legend(symbolType="stroke"),
    )
    tips = [tip(*pair) for pair in RUN_TIPS]
    tips += [tip("step", "step", ",.0f"), tip("loss", "nats per token", ".3f")]
    tips += [tip("measured", "measured on"), tip("seed", "seed")]
    base = alt.Chart(data(rows)).encode(x=step, y=loss_axis("loss", loss_title), color=colour)
    lines = base.mark_line(strokeWidth=1.6, opacity=0.85).encode(strokeDash=dash, detail="run:N")
    hover = base.mark_point(size=22, opacity=0.85).encode(tooltip=tips)
    starts = alt.Chart(data(boundaries)).mark_rule(strokeDash=[6, 4], strokeWidth=1.25).encode(
        x=step, color=colour,
        tooltip=[tip("series", "replay fraction"), tip("step", "stage 2 starts at step", ",.0f")],
    )  # fmt: skip
    return alt.layer(starts, lines, hover).properties(height=HEIGHT)


def boundary_chart(rows: Sequence[Row], *, loss_title: str) -> Chart:
    """Return the change of loss around the stage boundary, in steps from it, one colour per rho.

    Rows: {series, offset, change, setting, seed, run}; change is the loss less the loss just before
    the boundary, in nats per token.
    """
    colour, _ = colours_of(series_names(rows), title="replay fraction ρ")
    offset = alt.X("offset:Q", title="steps since stage 2 began", axis=alt.Axis(tickCount=10))
    base = alt.Chart(data(rows)).encode(
        x=offset, y=alt.Y("change:Q", title=loss_title), color=colour
    )
    tips = [tip(*pair) for pair in RUN_TIPS]
    tips += [tip("offset", "steps since the boundary", "+,.0f")]
    tips += [tip("change", "change, nats per token", "+.3f"), tip("seed", "seed")]
    lines = base.mark_line(strokeWidth=1.6, opacity=0.85).encode(detail="run:N")
    dots = base.mark_point(size=26).encode(tooltip=tips)
    zero = alt.Chart(data([{"offset": 0}]))
    rule = zero.mark_rule(style="guide").encode(x=offset)
    return alt.layer(rule, lines, dots).properties(height=300)


def seeds_chart(rows: Sequence[Row], *, field_title: str, zero: bool) -> Chart:
    """Return a value per run against rho: every seed a dot, the mean of each series a line.

    Rows: {series, rho, value, setting, seed}. `zero` draws a rule at value 0.
    """
    colour, shape = colours_of(series_names(rows), title=None)
    rho = replay_axis(rows)
    value = alt.Y("value:Q", title=field_title)
    base = alt.Chart(data(rows)).encode(x=rho, color=colour)
    tips = [tip("series", "measured on"), tip("rho", "replay fraction", ".4~f")]
    tips += [tip("value", "value", "+.3f"), tip("setting", "setting"), tip("seed", "seed")]
    dots = base.mark_point(size=45, opacity=0.75).encode(y=value, shape=shape, tooltip=tips)
    mean = base.mark_line().encode(y=alt.Y("mean(value):Q", title=field_title))
    layers: list[alt.Chart] = [mean, dots]
    if zero:
        rule = alt.Chart(data([{"value": 0}])).mark_rule(style="guide").encode(y=value)
        layers.insert(0, rule)
    return alt.layer(*layers).properties(height=280)
