"""Write a study's report: report.html, and every figure as PNG and SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replay_jax.analysis.study.study import Study
from replay_jax.report.advice import Advice
from replay_jax.report.drawing import draw_figures
from replay_jax.report.elements.inputs import PlanSummary, TimeRow
from replay_jax.report.html import render_page, write_pictures, write_whole
from replay_jax.report.page import build_page


def write_report(
    records: Sequence[Mapping[str, Any]],
    study: Study,
    advice: Advice,
    out_dir: Path,
    *,
    plan_summary: PlanSummary,
    time_table: Sequence[TimeRow],
    rerun_command: str,
) -> tuple[Path, ...]:
    """Write report.html and figures/*.png, *.svg; returns their paths, the page first.

    Args:
        records: the finished runs that `study` was made from (losses in nats per token).
        study: their analysis.
        advice: each target's recommendation (`answer.advise`), the first thing the report says.
        out_dir: folder for report.html; made if it is missing.
        plan_summary: the sweep, its missing runs, its data and its machine.
        time_table: seconds by kind of work; empty leaves the table out.
        rerun_command: the command line that repeats or continues the sweep.

    Raises:
        OSError: the folder cannot be written.
    """
    page = build_page(
        records,
        study,
        advice,
        plan_summary=plan_summary,
        time_rows=time_table,
        rerun_command=rerun_command,
    )
    drawings = draw_figures(page.figures())
    pictures = write_pictures(drawings, out_dir / "figures")
    report = out_dir / "report.html"
    write_whole(report, render_page(page, drawings).encode())
    return (report, *pictures)
