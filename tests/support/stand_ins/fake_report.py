"""What a report needs beside records, made up: configuration, plan, times, command."""

import vl_convert

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.report import html
from replay_jax.report.elements.inputs import PlanSummary, TimeRow

CONFIG = AnalysisConfig(
    reference={"protocol": "uniform"}, tuned=("schedule.target_epochs",), level=0.9
)
PLAN = PlanSummary(
    name="quickstart",
    question="How much target data is replay worth?",
    planned_runs=74,
    missing_runs=("replay_fraction=0.5 seed=1: loss is not finite at step 310",),
    steps_alone=40_000,
    steps_planned=10_000,
    fingerprints={"wiki": "a3f4b2c1d0e9f8a7"},
    machine={"processor": "a processor"},
)
TIME = (TimeRow("train steps", 300.0, False), TimeRow("compile", 100.0, True))
COMMAND = "replay-jax run configs/quickstart.py --workdir=runs/quickstart"


def without_pictures(patch):
    """Figures are empty drawings without a script: for tests of what stands around them."""
    patch.setattr(html, "_bundle", str)
    patch.setattr(vl_convert, "vegalite_to_svg", lambda *_, **__: "<svg/>")
    without_pixels(patch)


def without_pixels(patch):
    """Figures are drawn, but not as PNG, which takes as long again: test_report.py writes those."""
    patch.setattr(vl_convert, "svg_to_png", lambda *_, **__: b"png")
