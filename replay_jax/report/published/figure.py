"""Published gains drawn beside a study's own, where both can be put on one axis.

Losses of other text or another size are on no axis of ours, so what is drawn is what they change.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from replay_jax.analysis.study.study import Study
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.words import level_words
from replay_jax.report.figures.encodings import Chart, Row, colours_of, data, tip
from replay_jax.report.published.ours import ACCURACY, NATS, WORTH, Gained, gained
from replay_jax.report.published.values import Published, asked, of_target

PUBLISHED, OURS = "published, one run each, no uncertainty known", "ours"
BEYOND = "ours, beyond the law"
_TITLES = {
    WORTH: "worth, times the target data",
    NATS: "gain (nats per token)",
    ACCURACY: "gain in accuracy (share of the items)",
}
_ROW = 24


def published_figures(study: Study, records: Sequence[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """A figure for every unit in which something of ours stands beside something published."""
    rows: dict[str, list[Row]] = {}
    for unit, row in _rows(study, records):
        rows.setdefault(unit, []).append(row)
    return tuple(
        Figure(
            name=f"published_{unit}",
            title="Published beside ours",
            caption=(
                "Published: arXiv 2603.04964, single runs with one seed, whose uncertainty is not "
                f"known. Ours: this study, with {level_words(study.level)}s. Gains, not losses: "
                "those depend on text, tokenizer and size."
            ),
            chart=published_chart(found, unit=unit),
        )
        for unit, found in rows.items()
        if any(row["series"] != PUBLISHED for row in found)
    )


def published_chart(rows: Sequence[Row], *, unit: str) -> Chart:
    """Return gains in words of what they are, published and our own.

    Rows: {series, label, value, low, high}, `low` and `high` None where there is no interval.
    """
    worth = unit == WORTH
    kind = {"type": "log"} if worth else {"type": "linear", "zero": False}
    scale = alt.Scale(**kind, nice=False, padding=16)
    x = alt.X(
        "value", type="quantitative", title=_TITLES[unit], scale=scale, axis=alt.Axis(tickCount=8)
    )
    labels = list(dict.fromkeys(str(row["label"]) for row in rows))
    y = alt.Y(
        "label", type="nominal", title=None, sort=labels, axis=alt.Axis(labelLimit=360, grid=True)
    )
    tips = [tip("series", "of"), tip("value", _TITLES[unit], ".3f"), tip("low", "from", ".3f"),
            tip("high", "to", ".3f")]  # fmt: skip
    drawn = {str(row["series"]) for row in rows}
    names = [name for name in (OURS, PUBLISHED, BEYOND) if name in drawn]
    colour, shape = colours_of(names, title=None)
    nothing = alt.Chart(data([{"value": 1.0 if worth else 0.0}])).mark_rule(style="guide")
    layers = [nothing.encode(x=x)]
    # A layer without a row has no extent.
    if known := [row for row in rows if row["low"] is not None and row["high"] is not None]:
        bars = alt.Chart(data(known)).mark_rule(strokeWidth=4, opacity=0.4)
        layers.append(
            bars.encode(
                x=alt.X("low:Q", title=_TITLES[unit], scale=scale), x2="high:Q", y=y, color=colour
            )
        )
    dots = alt.Chart(data(rows)).mark_point(size=80, filled=True, opacity=1)
    layers.append(dots.encode(x=x, y=y, color=colour, shape=shape, tooltip=tips))
    return alt.layer(*layers).properties(height=_ROW * len(labels) + 20)


def _rows(study: Study, records: Sequence[Mapping[str, Any]]) -> list[tuple[str, Row]]:
    """Published ones of every target first, then ours, target by target."""
    rows = asked(records)
    theirs: list[tuple[str, Row]] = []
    mine: list[tuple[str, Row]] = []
    for target in study.targets:
        for name, part in _by_target(of_target(rows, target.target)).items():
            for each in gained(target, part, records):
                row = _row(f"{name}, {each.label}", PUBLISHED, each.published)
                if row is not None and (each.unit, row) not in theirs:
                    theirs.append((each.unit, row))
                found = _own_row(each, target.target)
                if found is not None and (each.unit, found) not in mine:
                    mine.append((each.unit, found))
    return [*theirs, *mine]


def _by_target(rows: Sequence[Published]) -> dict[str, list[Published]]:
    found: dict[str, list[Published]] = {}
    for row in rows:
        found.setdefault(row.target, []).append(row)
    return found


def _own_row(each: Gained, target: str) -> Row | None:
    if each.ours is None or each.ours.value is None:
        return None
    series = BEYOND if each.ours.extrapolated else OURS
    row = _row(f"{target}, {each.own}", series, each.ours.value)
    return None if row is None else {**row, "low": each.ours.low, "high": each.ours.high}


def _row(label: str, series: str, value: float | None) -> Row | None:
    if value is None:
        return None
    return {"series": series, "label": label, "value": value, "low": None, "high": None}
