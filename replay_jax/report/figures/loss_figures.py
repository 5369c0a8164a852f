"""Losses without a stage that replays along an axis: what tuning the other side gives."""

from collections.abc import Collection, Mapping, Sequence

import altair as alt

from replay_jax.analysis.advice.without_replay import LossAxis, best_with_replay, losses_along
from replay_jax.analysis.study.axes import as_number
from replay_jax.analysis.study.selection import loss_of, short
from replay_jax.analysis.study.study import TargetStudy
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.figures.along_figures import value_axis, word_axis
from replay_jax.report.figures.encodings import (
    HEIGHT,
    TARGET_LOSS,
    Chart,
    Row,
    colours_of,
    data,
    loss_axis,
    series_names,
    tip,
)
from replay_jax.report.figures.study_figures import figure_name

# More lines than colours could not be told apart.
_MOST_LINES = 6


def loss_figures(
    study: TargetStudy, but: Collection[str], chosen: Mapping[str, float]
) -> tuple[Figure, ...]:
    """One figure for every axis along which losses without replay can be compared.

    Args:
        study: of one target.
        but: keys of axes that another figure shows.
        chosen: what the paper's authors chose along an axis, by its key.
    """
    return tuple(_figure(study, axis, chosen) for axis in losses_along(study, but))


def _figure(study: TargetStudy, axis: LossAxis, chosen: Mapping[str, float]) -> Figure:
    kept = sorted(line.lowest for line in axis.lines)[:_MOST_LINES]
    shown = [line for line in axis.lines if line.lowest <= kept[-1]]
    means: list[Row] = []
    seeds: list[Row] = []
    for line in shown:
        for each in line.losses:
            number = as_number(each.value)
            at = {
                "series": line.label or axis.schedules.removeprefix("of "),
                "value": each.value if number is None else number,
            }
            means.append({**at, "loss": each.loss})
            seeds += [{**at, "loss": loss} for loss in each.by_seed]
    marks: list[Row] = []
    if axis.key in chosen and _measured(means):
        marks.append({"value": chosen[axis.key], "label": "chosen in the paper"})
    replay = best_with_replay(study)
    rules: list[Row] = []
    if replay is not None:
        rho = f"{replay.key.replay_fraction:.4g}"
        rules.append({"loss": loss_of(replay), "label": f"best that replays, ρ {rho}"})
    more = len(axis.lines) - len(shown)
    return Figure(
        name=figure_name("without_replay", study, axis.key),
        title=f"Target loss {axis.schedules}, by {short(axis.key)}",
        caption=(
            ("Lines join means over seeds" if _measured(means) else "Large: means over seeds")
            + ", small dots are single seeds; of one colour nothing else changes."
            + " Dashed across: the best schedule that replays, at the same budget." * bool(rules)
            + " Dashed upright: what the paper's authors chose; their curve is not published as "
            "numbers."
            * bool(marks)
            + f" {more} further lines, of higher loss, are not drawn." * bool(more)
        ),
        chart=loss_chart(means, seeds, marks, rules, title=short(axis.key)),
        target=study.target,
    )


def loss_chart(
    means: list[Row], seeds: list[Row], marks: list[Row], rules: list[Row], *, title: str
) -> Chart:
    """Return losses against an axis; a line joins those of a series where values are numbers.

    Rows: means and seeds {series, value, loss}; marks {value, label}; rules {loss, label}.
    """
    values = [row["value"] for row in means]
    measured = _measured(means)
    marked = [*values, *(row["value"] for row in marks)]
    x = value_axis(marked, title) if measured else word_axis(title)
    colour, shape = colours_of(series_names(means), title=None)
    loss = loss_axis("loss", TARGET_LOSS, room=18)
    tips = [tip("series", "with"), tip("loss", "nats per token, mean of seeds", ".3f")]
    base = alt.Chart(data(means)).encode(x=x, y=loss, color=colour)
    upright = alt.Chart(data(marks))
    across = alt.Chart(data(rules))
    above = upright.mark_text(style="annotation", align="left", dx=5, baseline="top")
    beside = across.mark_text(style="annotation", align="left", dx=5, baseline="bottom", dy=-3)
    return alt.layer(
        *([upright.mark_rule(style="guide").encode(x=x),
           above.encode(x=x, y=alt.value(2), text="label:N")] if marks else []),
        *([across.mark_rule(style="guide").encode(y=loss),
           beside.encode(x=alt.value(2), y=loss, text="label:N")] if rules else []),
        *([base.mark_line()] if measured else []),
        alt.Chart(data(seeds)).mark_point(size=26, opacity=0.55).encode(
            x=x, y=loss, color=colour),
        base.mark_point(size=85, filled=True).encode(shape=shape, tooltip=tips),
    ).properties(height=HEIGHT)  # fmt: skip


def _measured(means: Sequence[Row]) -> bool:
    """Whether the values of the axis are numbers, between which there is something."""
    return all(isinstance(row["value"], float) for row in means)
