"""Charts that compare finished runs: plain rows in, an Altair chart out."""

from collections.abc import Sequence

import altair as alt

from replay_jax.report.elements.theme import HEATMAP_COLOURS, REFERENCE_COLOUR
from replay_jax.report.figures.encodings import (
    GENERIC_LOSS,
    HEIGHT,
    TARGET_LOSS,
    Chart,
    Row,
    colours_of,
    data,
    loss_axis,
    replay_axis,
    series_names,
    tip,
    token_axis,
)
from replay_jax.report.figures.label_places import PLACES, said_at


def efficiency_chart(
    *, curve: Sequence[Row], reference: Sequence[Row], candidates: Sequence[Row]
) -> Chart:
    """Return the reference law with its band, its seeds, and what each schedule is worth on it.

    Rows: curve {tokens, loss, low, high, range "reference law" | "extrapolated", piece}; reference
    {tokens, loss, seed}; candidates {series, tokens, loss, setting, worth, label, short, place,
    narrow, start, equivalent, equivalent_low, equivalent_high}. A line runs from `start`, where the
    law has the baseline's loss, to `equivalent`: its length is the multiplier, which stands there
    in words (`label_places`). Candidates without a multiplier have None in place of the last four.
    """
    budgets = sorted({float(row["tokens"]) for row in (*reference, *candidates)})
    tokens = token_axis("tokens", budgets)
    layers: list[alt.Chart] = []
    # A layer without a row has no domain, and a log axis without one has no end.
    if curve:
        layers += _law_layers(curve, tokens)
    if reference:
        layers.append(_reference_layer(reference, tokens))
    if candidates:
        layers += _candidate_layers(candidates, tokens, budgets)
    return alt.layer(*layers).properties(height=400)


def _law_layers(curve: Sequence[Row], tokens: alt.X) -> tuple[alt.Chart, ...]:
    law = alt.Chart(data(curve))
    band = law.mark_area(color=REFERENCE_COLOUR, opacity=0.2).encode(
        x=tokens, y=loss_axis("low", TARGET_LOSS), y2="high:Q"
    )
    dash = alt.StrokeDash(
        "range:N",
        title=None,
        scale=alt.Scale(domain=["reference law", "extrapolated"], range=[[1, 0], [3, 4]]),
        legend=alt.Legend(symbolStrokeColor=REFERENCE_COLOUR, symbolType="stroke"),
    )
    line = law.mark_line(color=REFERENCE_COLOUR).encode(
        x=tokens,
        y=loss_axis("loss", TARGET_LOSS),
        detail="piece:N",
        strokeDash=dash,
        tooltip=[
            tip("tokens", "target tokens", ",.0f"),
            tip("loss", "law, nats per token", ".3f"),
            tip("low", "from", ".3f"),
            tip("high", "to", ".3f"),
        ],
    )
    return band, line


def _reference_layer(reference: Sequence[Row], tokens: alt.X) -> alt.Chart:
    dots = alt.Chart(data(reference)).mark_point(
        color=REFERENCE_COLOUR, size=34, filled=True, opacity=0.75
    )
    tips = [
        tip("tokens", "target tokens", ",.0f"),
        tip("loss", "reference run", ".3f"),
        tip("seed", "seed"),
    ]
    return dots.encode(x=tokens, y=loss_axis("loss", TARGET_LOSS), tooltip=tips)


def _candidate_layers(
    candidates: Sequence[Row], tokens: alt.X, budgets: Sequence[float]
) -> tuple[alt.Chart, ...]:
    """The interval of what a schedule is worth, the line that leads to it, and its own point."""
    colour, shape = colours_of(series_names(candidates), title=None)
    loss = loss_axis("loss", TARGET_LOSS)
    tips = [
        tip("series", "schedule"),
        tip("tokens", "target tokens", ",.0f"),
        tip("loss", "nats per token, mean of seeds", ".3f"),
        tip("setting", "setting"),
        tip("worth", "worth"),
    ]
    own = alt.Chart(data(candidates)).encode(y=loss, color=colour, tooltip=tips)
    points = own.mark_point(size=95, filled=True, opacity=1).encode(x=tokens, shape=shape)
    # A layer without a row has no extent.
    if all(row["equivalent"] is None for row in candidates):
        return (points,)
    reached = own.transform_filter("isValid(datum.equivalent)")
    spread = reached.mark_rule(strokeWidth=6, opacity=0.35).encode(
        x=token_axis("equivalent_low", budgets), x2="equivalent_high:Q"
    )
    leads = reached.mark_rule(strokeWidth=1.75, strokeDash=[2, 3])
    words = alt.Chart(data(candidates)).transform_filter("isValid(datum.equivalent)")
    said = [
        words.mark_text(
            style="annotation", lineBreak="\n", text=alt.ExprRef(said_at(place)), **how
        ).encode(x=token_axis(field, budgets), y=loss)
        for place, (field, how) in PLACES.items()
        if any(place in (row["place"], row["narrow"]) for row in candidates)
    ]
    leads = leads.encode(x=token_axis("start", budgets), x2="equivalent:Q")
    return spread, leads, points, *said


def replay_chart(
    means: Sequence[Row],
    seeds: Sequence[Row],
    baselines: Sequence[Row],
    across: Sequence[Row],
    *,
    loss_title: str,
) -> Chart:
    """Return loss against replay fraction: one line per series through the means, seeds as dots.

    Rows: means {series, rho, loss, setting, seeds, best}; baselines, which no line passes, and
    what is drawn across, the same without `best`; seeds {series, rho, loss, seed}.
    """
    rho = replay_axis(means)
    names = series_names([*means, *across])
    colour, shape = colours_of(names, title="schedules, target tokens")
    tips = [
        tip("series", "schedules"),
        tip("rho", "replay fraction", ".4~f"),
        tip("loss", "nats per token, mean", ".3f"),
        tip("seeds", "seeds"),
        tip("setting", "best setting"),
    ]
    base = alt.Chart(data(means)).encode(x=rho, y=loss_axis("loss", loss_title), color=colour)
    dots = alt.Chart(data(seeds)).mark_point(size=26, opacity=0.55).encode(
        x=rho, y=loss_axis("loss", loss_title), color=colour,
        tooltip=[tip("series", "target tokens"), tip("rho", "replay fraction", ".4~f"),
                 tip("loss", "nats per token", ".3f"), tip("seed", "seed")],
    )  # fmt: skip
    line = base.mark_line()
    points = base.mark_point(size=85).encode(shape=shape, tooltip=tips)
    layers = [line, dots, points]
    if any(row["best"] for row in means):
        ring = base.transform_filter("datum.best").mark_point(size=330, filled=False, strokeWidth=2)
        layers.append(ring.encode(tooltip=tips))
    if across:
        rule = alt.Chart(data(across)).mark_rule(strokeDash=[5, 4], strokeWidth=2)
        layers.append(rule.encode(y=loss_axis("loss", loss_title), color=colour, tooltip=tips))
    if baselines:
        off = alt.Chart(data(baselines)).mark_point(
            size=110, shape="cross", color=REFERENCE_COLOUR, filled=True
        )
        layers.append(off.encode(x=rho, y=loss_axis("loss", loss_title), tooltip=tips))
    return alt.layer(*layers).properties(height=HEIGHT)


def heatmap_chart(cells: Sequence[Row]) -> Chart:
    """Return rho (rows) against alpha (columns), the best cell boxed, as in the paper's figure 7.

    Rows: {rho, alpha, loss, low, high, best, dark, setting, seeds, published}; `dark` cells get
    white text; `published` names the paper's targets whose best cell it is.
    """
    alpha = alt.X(
        "alpha:O", title="allocation α (target share kept for stage 2)",
        axis=alt.Axis(labelAngle=0, domain=False, ticks=False),
        scale=alt.Scale(paddingInner=0.04, paddingOuter=0.03), sort="ascending",
    )  # fmt: skip
    rho = alt.Y(
        "rho:O", title="replay fraction ρ", sort="ascending",
        axis=alt.Axis(domain=False, ticks=False),
        scale=alt.Scale(paddingInner=0.06, paddingOuter=0.04),
    )  # fmt: skip
    tips = [
        tip("rho", "replay fraction"),
        tip("alpha", "allocation"),
        tip("loss", "nats per token, mean", ".3f"),
        tip("low", "lowest seed", ".3f"),
        tip("high", "highest seed", ".3f"),
        tip("seeds", "seeds"),
        tip("setting", "best setting"),
    ]
    base = alt.Chart(data(cells)).encode(x=alpha, y=rho)
    colour = alt.Color(
        "loss:Q",
        scale=alt.Scale(range=list(reversed(HEATMAP_COLOURS)), interpolate="lab", zero=False),
        legend=None,
    )  # fmt: skip
    squares = base.mark_rect(cornerRadius=3).encode(color=colour, tooltip=tips)
    text = base.mark_text(fontSize=13).encode(
        text=alt.Text("loss:Q", format=".3f"),
        color=alt.condition("datum.dark", alt.value("#ffffff"), alt.value("#14171c")),
        tooltip=tips,
    )
    box = base.transform_filter("datum.best").mark_rect(style="box", cornerRadius=3)
    names = base.mark_text(fontSize=11, dy=17).encode(
        text="published:N",
        color=alt.condition("datum.dark", alt.value("#ffffff"), alt.value("#14171c")),
    )
    marks = [names] if any(row["published"] for row in cells) else []
    height = 56 * len({row["rho"] for row in cells}) + 40
    return alt.layer(squares, text, *marks, box).properties(height=height)


def quadratic_chart(points: Sequence[Row], curve: Sequence[Row], minima: Sequence[Row]) -> Chart:
    """Return loss against -ln(1 - rho) with a degree-2 fit per series and the fitted minimum.

    Rows: points {series, strength, rho, loss, seed}; curve {series, strength, loss}; minima
    {series, strength, rho, loss}, only those that may be shown.
    """
    strength = alt.X(
        "strength:Q",
        title="replay strength −ln(1 − ρ)",
        scale=alt.Scale(nice=False, padding=14),
        axis=alt.Axis(tickCount=8),
    )
    colour, shape = colours_of(series_names(points), title="target tokens")
    loss = loss_axis("loss", TARGET_LOSS, room=34)  # the labels stand below the minima
    line = alt.Chart(data(curve)).mark_line().encode(
        x=strength, y=loss, color=colour
    )  # fmt: skip
    dots = alt.Chart(data(points)).mark_point(size=45, opacity=0.75).encode(
        x=strength, y=loss, color=colour, shape=shape,
        tooltip=[tip("series", "target tokens"), tip("rho", "replay fraction", ".4~f"),
                 tip("loss", "nats per token", ".3f"), tip("seed", "seed")],
    )  # fmt: skip
    if not minima:
        return alt.layer(line, dots).properties(height=HEIGHT)
    least = alt.Chart(data(minima))
    rule = least.mark_rule(strokeDash=[4, 4], strokeWidth=1.5).encode(
        x=strength, y=loss, y2=alt.value(0), color=colour
    )
    label = least.mark_text(
        style="annotation", dy=7, align="left", dx=6, baseline="top", lineBreak="\n"
    )
    text = label.encode(x=strength, y=loss, text="label:N")
    return alt.layer(line, dots, rule, text).properties(height=HEIGHT)


def pareto_chart(points: Sequence[Row], front: Sequence[Row]) -> Chart:
    """Return target loss against generic loss, one point per setting, the best trades joined.

    Rows: points {series, target, generic, target_low, target_high, generic_low, generic_high,
    setting, seeds}; front {target, generic} in order. Down and to the left is better on both.
    """
    target = alt.X(
        "target:Q",
        title=TARGET_LOSS,
        scale=alt.Scale(zero=False, padding=12),
        axis=alt.Axis(tickCount=8),
    )
    generic = loss_axis("generic", GENERIC_LOSS)
    colour, shape = colours_of(series_names(points), title="replay fraction ρ")
    tips = [
        tip("series", "replay fraction"),
        tip("target", "target, nats per token", ".3f"),
        tip("generic", "generic, nats per token", ".3f"),
        tip("setting", "setting"),
        tip("seeds", "seeds"),
    ]
    base = alt.Chart(data(points)).encode(color=colour)
    across = base.mark_rule(strokeWidth=2, opacity=0.5).encode(
        x=alt.X("target_low:Q", title=TARGET_LOSS, axis=alt.Axis(tickCount=8)),
        x2="target_high:Q",
        y=generic,
    )
    up = base.mark_rule(strokeWidth=2, opacity=0.5).encode(
        x=target, y=loss_axis("generic_low", GENERIC_LOSS), y2="generic_high:Q"
    )
    dots = base.mark_point(size=80).encode(x=target, y=generic, shape=shape, tooltip=tips)
    stairs = alt.Chart(data(front)).mark_line(
        style="guide", color=REFERENCE_COLOUR, interpolate="step-after"
    )
    line = stairs.encode(x=target, y=generic, order=alt.Order("target:Q"))
    return alt.layer(line, across, up, dots).properties(height=400)
