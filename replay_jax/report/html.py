"""From a page of blocks to one self-contained HTML file and to PNG and SVG pictures."""

import json
import os
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import vl_convert
from markupsafe import Markup, escape

from replay_jax.report.drawing import VEGA_LITE, Drawings
from replay_jax.report.elements.blocks import Page
from replay_jax.report.elements.theme import DARK, LIGHT, vega_config

_PAGE_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif'
_EXPOSE = "window.vegaEmbed = vegaEmbed;"


def render_page(page: Page, drawings: Drawings) -> str:
    """Return the page as one HTML text that needs no other file and no network.

    Every figure stands in it as a picture, which the page's own script replaces by a chart that
    answers the pointer: without JavaScript nothing is missing. Where a figure could not be drawn
    the page says why.
    """
    package = resources.files("replay_jax.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_read(package, "report.html.jinja"))
    charts = {
        figure.name: _wide(figure.spec)
        for figure in page.figures()
        if not drawings[figure.name].problem
    }
    themes = {
        name: vega_config(theme, background="transparent", font=_PAGE_FONT)
        for name, theme in (("light", LIGHT), ("dark", DARK))
    }
    return template.render(
        page=page,
        drawings=drawings,
        css=_read(package, "report.css") + _dark_pictures(),
        script=_read(package, "report.js"),
        bundle=_bundle(),
        charts=_script_json({"charts": charts, "themes": themes}),
        shown_for=_shown_for,
        parts=_parts,
    )


def write_pictures(drawings: Drawings, folder: Path) -> tuple[Path, ...]:
    """Write each drawing as PNG and SVG (light theme, white) and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, drawing in drawings.items():
        if drawing.problem:
            continue
        for ending, content in (("svg", drawing.svg.encode()), ("png", drawing.png)):
            path = folder / f"{name}.{ending}"
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
    return str(vl_convert.javascript_bundle(_EXPOSE, vl_version=VEGA_LITE))


@cache
def _dark_pictures() -> str:
    """Rules that give the pictures in the page, drawn for white, the colours of the dark theme."""
    pairs = [(LIGHT.ink, DARK.ink), (LIGHT.muted, DARK.muted), (LIGHT.grid, DARK.grid)]
    pairs += zip(LIGHT.series, DARK.series, strict=True)
    rules = "".join(
        f"PLACE .chart:not(.vega-embed) [{kind}='{light}'] {{ {kind}: {dark}; }}\n"
        for light, dark in pairs
        for kind in ("fill", "stroke")
        if light != dark
    )
    system = rules.replace("PLACE", ":root:not([data-theme='light'])")
    chosen = rules.replace("PLACE", ":root[data-theme='dark']")
    return f"@media (prefers-color-scheme: dark) {{\n{system}}}\n{chosen}"


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


def _parts(cell: str) -> Markup:
    """A value and its interval, between which alone a line may end."""
    value, space, bounds = cell.partition(" (")
    if not space:
        return Markup('<span class="whole">{}</span>').format(value)
    return Markup('<span class="whole">{}</span> <span class="whole">({}</span>').format(
        value, bounds
    )
