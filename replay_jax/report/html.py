"""From a page of blocks to one self-contained HTML file and to PNG and SVG pictures."""

import json
import os
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert
from markupsafe import Markup, escape

from replay_jax.report.elements.blocks import Figure, Page
from replay_jax.report.elements.theme import DARK, LIGHT, vega_config

_PAGE_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif'
_PICTURE_FONT = "Liberation Sans, Arial, sans-serif"  # Liberation Sans comes with vl-convert
_EXPOSE = "window.vegaEmbed = vegaEmbed;"
_PICTURE_WIDTH = 720
_PICTURE_SCALE = 2.0
# The Vega-Lite release that Altair writes for: page and pictures are drawn by the same code.
_VEGA_LITE = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def render_page(page: Page) -> str:
    """Return the page as one HTML text that needs no other file and no network."""
    package = resources.files("replay_jax.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_read(package, "report.html.jinja"))
    charts = {figure.name: _wide(figure.spec()) for figure in page.figures()}
    themes = {
        name: vega_config(theme, background="transparent", font=_PAGE_FONT)
        for name, theme in (("light", LIGHT), ("dark", DARK))
    }
    return template.render(
        page=page,
        css=_read(package, "report.css"),
        script=_read(package, "report.js"),
        bundle=_bundle(),
        charts=_script_json({"charts": charts, "themes": themes}),
        shown_for=_shown_for,
    )


def write_pictures(figures: tuple[Figure, ...], folder: Path) -> tuple[Path, ...]:
    """Write each figure as PNG and SVG (light theme, white) and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    config = vega_config(LIGHT, background=LIGHT.page, font=_PICTURE_FONT)
    paths = []
    for figure in figures:
        spec = figure.spec() | {"width": _PICTURE_WIDTH, "config": config, "title": figure.title}
        svg = vl_convert.vegalite_to_svg(spec, vl_version=_VEGA_LITE)
        png = vl_convert.svg_to_png(svg, scale=_PICTURE_SCALE)
        for ending, content in (("svg", svg.encode()), ("png", png)):
            path = folder / f"{figure.name}.{ending}"
            write_whole(path, content)
            paths.append(path)
    return tuple(paths)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@cache
def _bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script (about 0.9 MB); the same for every report."""
    return str(vl_convert.javascript_bundle(_EXPOSE, vl_version=_VEGA_LITE))


def _read(package: Any, name: str) -> str:
    return str((package / name).read_text(encoding="utf-8"))


def _wide(spec: dict[str, Any]) -> dict[str, Any]:
    """Let a chart take the width of its place on the page."""
    return {name: value for name, value in spec.items() if name != "config"} | {
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
    }


def _script_json(value: Any) -> str:
    """JSON for a <script> element: no text in it can end the element, and numbers are finite."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _shown_for(target: str | None) -> Markup:
    return Markup("") if target is None else Markup(f'data-target="{escape(target)}"')
