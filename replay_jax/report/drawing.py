"""From charts to pictures: each as SVG and PNG, or in words why it could not be drawn."""

from collections.abc import Iterable
from dataclasses import dataclass

import altair as alt
import vl_convert

from replay_jax.progress import step_by_step
from replay_jax.report.elements.blocks import Figure
from replay_jax.report.elements.theme import LIGHT, vega_config

_FONT = "Liberation Sans, Arial, sans-serif"  # Liberation Sans comes with vl-convert
_WIDTH = 720
_SCALE = 2.0
# The Vega-Lite release that Altair writes for: page and pictures are drawn by the same code.
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


@dataclass(frozen=True)
class Drawing:
    """A figure drawn in the light theme on white; `problem` says why there is no picture."""

    svg: str
    png: bytes
    problem: str = ""


Drawings = dict[str, Drawing]


def draw_figures(figures: Iterable[Figure]) -> Drawings:
    """Draw every figure, by its name; one that cannot be drawn costs only itself."""
    return {figure.name: _draw(figure) for figure in step_by_step(list(figures), "drawing figures")}


def _draw(figure: Figure) -> Drawing:
    config = vega_config(LIGHT, background=LIGHT.page, font=_FONT)
    try:
        spec = figure.spec | {"width": _WIDTH, "config": config, "title": figure.title}
        svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
        return Drawing(svg, vl_convert.svg_to_png(svg, scale=_SCALE))
    except Exception as error:  # whatever the renderer raises, the rest of the report stands
        why = str(error).strip().split("\n")[0] or type(error).__name__
        return Drawing("", b"", problem=why)
