"""How every chart looks: one colour-blind-safe palette, and a Vega configuration per theme."""

from dataclasses import dataclass
from typing import Any

# Five shapes beside six colours: thirty series before a pair repeats.
SERIES_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross")
REFERENCE_COLOUR = "#7A828C"  # reads on white (3.9 : 1) and on the dark page (4.6 : 1)
HEATMAP_COLOURS = ("#fde725", "#7ad151", "#22a884", "#2a788e", "#414487", "#440154")  # viridis


@dataclass(frozen=True)
class Theme:
    """The colours of one page theme; every value is a CSS colour.

    `series` are those of Okabe and Ito, "Color Universal Design" (2008), ordered so that the hues
    with the least contrast on white come last; black and yellow are left out, and on the dark page
    blue is lighter.
    """

    ink: str
    muted: str
    grid: str
    page: str
    series: tuple[str, ...]


LIGHT = Theme(
    ink="#1b1f24",
    muted="#57606a",
    grid="#e4e7eb",
    page="#ffffff",
    series=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
)
DARK = Theme(
    ink="#e8eaed",
    muted="#a4acb6",
    grid="#30363d",
    page="#14171c",
    series=("#4FA3E0", "#E0702A", "#1DB38A", "#D58FB8", "#E69F00", "#8CCBEF"),
)


def vega_config(theme: Theme, *, background: str, font: str) -> dict[str, Any]:
    """Return the Vega-Lite configuration of `theme`; charts themselves hold no theme colour.

    Marks that must follow the theme use the named styles `annotation`, `box` and `guide`.
    """
    text = {"labelColor": theme.muted, "titleColor": theme.ink, "labelFont": font}
    return {
        "background": background,
        "font": font,
        "padding": {"left": 4, "right": 12, "top": 6, "bottom": 4},
        "view": {"stroke": None},
        "range": {"category": list(theme.series), "symbol": list(SERIES_SHAPES)},
        "axis": text
        | {
            "gridColor": theme.grid,
            "domainColor": theme.muted,
            "tickColor": theme.muted,
            "labelFontSize": 12,
            "titleFontSize": 13,
            "titleFontWeight": 500,
            "titlePadding": 8,
            "labelFlush": False,
        },
        "legend": text
        | {
            "orient": "top",
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "symbolSize": 90,
            "symbolOpacity": 1,
            "labelLimit": 0,
            "columnPadding": 14,
            "rowPadding": 4,
            "offset": 8,
            "layout": {"margin": 24},
        },
        "title": {
            "color": theme.ink,
            "font": font,
            "fontSize": 15,
            "fontWeight": 600,
            "anchor": "start",
            "offset": 10,
        },
        "text": {"color": theme.ink},
        "line": {"strokeWidth": 2.25},
        "point": {"size": 60, "filled": True, "opacity": 1},
        "style": {
            "annotation": {"fill": theme.ink, "fontSize": 12, "font": font},
            "box": {"stroke": theme.ink, "strokeWidth": 3, "fill": None, "fillOpacity": 0},
            "guide": {"stroke": theme.muted, "strokeWidth": 1.25, "strokeDash": [5, 4]},
        },
    }
