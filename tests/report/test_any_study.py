"""A report always comes out, whatever a study lacks, and says what cannot be said."""

import io
import re
from dataclasses import replace

import altair as alt
import pytest
from fake_records import BASQUE, GSM8K, FakeStudy, fake_records
from fake_report import COMMAND, CONFIG, PLAN, TIME, without_pictures, without_pixels
from rich.console import Console

from replay_jax.analysis.runs.records import AnalysisConfig
from replay_jax.analysis.study.analyse import analyse_anyway
from replay_jax.errors import UserError
from replay_jax.report.advice import advise
from replay_jax.report.drawing import draw_figures
from replay_jax.report.elements.blocks import Figure, Section
from replay_jax.report.html import render_page
from replay_jax.report.naming import named
from replay_jax.report.page import build_page
from replay_jax.report.terminal import MOST_LINES, terminal_table

NO_REPLAY = AnalysisConfig(reference={"replay_fraction": 0.0}, tuned=(), level=0.9)
FULL = fake_records(FakeStudy(seeds=(0, 1), allocations=(1.0, 0.5), epochs=(16.0,)))
STAGED = [record for record in FULL if record["protocol"] != "uniform"]
REFERENCE = [record for record in FULL if record["protocol"] == "uniform"]


def fraction(record):
    return record["replay_fraction"]["requested"]


def mixed_protocols():
    other = fake_records(FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0,), epochs=(16.0,)))
    for record in other:
        if record["protocol"] != "uniform":
            record["protocol"] = record["overrides"]["schedule.protocol"] = "fine_tuning"
            record["id"] = "f" + record["id"][1:]
    return FULL + [record for record in other if record["protocol"] != "uniform"]


def several(key, values, runs):
    """The runs at every value of one more setting."""
    return [
        run | {"id": f"{place}{run['id']}", "overrides": run["overrides"] | {key: value}}
        for place, value in enumerate(values)
        for run in runs
    ]


def at_one_budget(runs):
    return [run for run in runs if run["target_tokens"] == 4096]


STUDIES = {
    "one run": FULL[:1],
    "one run that replays": [next(r for r in STAGED if fraction(r) == 0.5)],
    "one run without replay": [next(r for r in STAGED if fraction(r) == 0.0)],
    "no reference points": STAGED,
    "no candidates": REFERENCE,
    "one budget of reference": [r for r in REFERENCE if r["target_tokens"] == 4096],
    "only runs that replay": [r for r in STAGED if fraction(r)],
    "one seed": [r for r in FULL if r["seed"] == 0],
    "one budget": [r for r in FULL if r["target_tokens"] == 4096],
    "several protocols": mixed_protocols(),
    "several models": named(
        several("model", ({"embed_dim": 64}, {"embed_dim": 128}), at_one_budget(STAGED)), {}
    ),
    "a baseline alone, tuned": several(
        "optimizer.weight_decay",
        (0.0, 0.1, 0.8),
        at_one_budget([r for r in STAGED if fraction(r) == 0.0]),
    ),
    "unequal targets": FULL + fake_records(FakeStudy((BASQUE,), seeds=(0,)))[:1],
}


def page_of(records, config):
    study = analyse_anyway(records, config, resamples=200)
    advice = advise(study)
    page = build_page(
        records, study, advice, plan_summary=PLAN, time_rows=TIME, rerun_command=COMMAND
    )
    return study, advice, page


@pytest.mark.parametrize("name", STUDIES)
def test_a_report_comes_out_of_any_study(name, monkeypatch):
    without_pixels(monkeypatch)
    records = STUDIES[name]
    study, advice, page = page_of(records, CONFIG)
    figures = page.figures()
    if len(records) > 12:  # the kinds of figure are the same, and drawing takes its time
        figures = tuple(
            f for f in figures if f.name.startswith(("efficiency", "replay_target", "without"))
        )
    drawings = draw_figures(figures)
    assert {drawing.problem for drawing in drawings.values()} <= {""}
    for drawing in drawings.values():
        width = re.search(r'width="([^"]+)"', drawing.svg)
        assert "NaN" not in drawing.svg and width and float(width[1]) < 2000
    assert len(page.answers) == len(study.targets)
    screen = Console(width=80, file=io.StringIO())
    screen.print(terminal_table(study, advice, records))
    lines = screen.file.getvalue().splitlines()
    assert len(lines) <= MOST_LINES and not any("{'" in line for line in lines)


def test_several_groups_that_claim_to_be_the_reference_cost_only_the_multiplier():
    three = FakeStudy((GSM8K,), seeds=(0, 1), candidate_budgets=(2048, 4096, 8192), epochs=(16.0,))
    records = [r for r in fake_records(three) if r["protocol"] != "uniform"]
    study, _, page = page_of(records, NO_REPLAY)
    assert "claim to be the reference" in study.targets[0].curve_problem
    assert page.answers[0].sentence.startswith("Replay helps")
    with pytest.raises(UserError, match="diverged"):
        losses = {"target": float("nan"), "generic": 1.0}
        analyse_anyway([records[0] | {"losses": losses}], NO_REPLAY)


def test_what_cannot_be_said_is_named():
    _, _, page = page_of(STUDIES["no candidates"], CONFIG)
    assert page.answers[0].sentence.startswith("Nothing can be recommended")
    _, _, page = page_of(STUDIES["no reference points"], CONFIG)
    doubts = next(section for section in page.sections if section.anchor == "doubts")
    words = " ".join(item for block in doubts.blocks for item in block.items)
    assert "No reference law" in words and "at least 3 budgets" in words


@pytest.fixture(scope="module")
def drawn():
    """A page of one small study with a figure that cannot be drawn, and its HTML."""
    records = [r for r in STUDIES["one budget"] if r["allocation"]["realised"] == 1.0]
    _, _, page = page_of([r for r in records if r["seed"] == 0], CONFIG)
    endless = alt.Chart(alt.InlineData(values=[])).mark_point().encode(x="a:Q")
    broken = Figure("broken", "A title", "A caption.", endless.properties(height=1e308))
    page = replace(page, sections=(*page.sections, Section("more", "More", (broken,))))
    with pytest.MonkeyPatch.context() as patch:
        without_pixels(patch)
        drawings = draw_figures(page.figures()[:-1])
    drawings |= draw_figures((broken,))
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)  # nor the charts' program, which test_report.py looks at
        return page, drawings, render_page(page, drawings)


def test_a_figure_that_cannot_be_drawn_costs_only_itself(drawn):
    _, drawings, html = drawn
    assert [name for name, drawing in drawings.items() if drawing.problem] == ["broken"]
    assert "This figure could not be drawn: " in html and 'id="broken"' not in html
    assert 'class="chart" id="replay_target_gsm8k"' in html


def test_figures_are_in_the_page_without_javascript(drawn):
    page, _, html = drawn
    shell = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert shell.count("<svg") == len(page.figures()) - 1 > 5
    assert "noscript" not in shell
    # On a phone a picture is scrolled, not made so small that nobody can read it.
    rule = re.search(r"\.chart:not\(\.vega-embed\) > svg {[^}]*min-width: (\d+)rem", shell)
    assert rule and int(rule[1]) * 16 >= 640
    assert len(re.findall(r"prefers-color-scheme: dark", shell)) == 2  # the pictures follow
