"""The report: one whole file, the answer first, doubts in words, nothing lost between forms."""

import json
import os
import re
from dataclasses import replace

import pytest
from fake_records import BASQUE, GSM8K, FakeStudy, FakeTarget, fake_records
from fake_report import COMMAND, CONFIG, PLAN, TIME, without_pictures, without_pixels
from rich.console import Console

from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.analyse import analyse
from replay_jax.report import html as html_of
from replay_jax.report.advice import advise
from replay_jax.report.answer import answers, settled
from replay_jax.report.drawing import draw_figures
from replay_jax.report.elements.blocks import Figure, Section, Table
from replay_jax.report.elements.picks import picks
from replay_jax.report.elements.words import between, number, seconds, signed, times
from replay_jax.report.figures.run_charts import seeds_chart
from replay_jax.report.html import write_whole
from replay_jax.report.page import build_page, doubts
from replay_jax.report.tables.boundary_tables import boundary_table
from replay_jax.report.tables.run_tables import (
    ledger_table,
    settings_table,
    time_table,
    versions_table,
)
from replay_jax.report.tables.study_tables import controls_table, losses_tables
from replay_jax.report.terminal import terminal_table
from replay_jax.report.write import write_report

SMALL = FakeStudy(targets=(GSM8K,), seeds=(0, 1), allocations=(1.0, 0.5))


def page_of(study, *, records=None, plan=PLAN):
    records = fake_records(study) if records is None else records
    found = analyse(records, CONFIG, resamples=200)
    return build_page(
        records, found, advise(found), plan_summary=plan, time_rows=TIME, rerun_command=COMMAND
    )


def render_page(page):
    with pytest.MonkeyPatch.context() as patch:
        without_pixels(patch)
        return html_of.render_page(page, draw_figures(page.figures()))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    records = fake_records(SMALL)
    study = analyse(records, CONFIG, resamples=200)
    paths = write_report(
        records,
        study,
        advise(study),
        folder,
        plan_summary=PLAN,
        time_table=TIME,
        rerun_command=COMMAND,
    )
    return study, paths, paths[0].read_text()


def test_everything_is_written_and_nothing_half(written):
    _, paths, html = written
    assert paths[0].name == "report.html" and html.rstrip().endswith("</html>")
    names = {path.name for path in paths[1:]}
    assert {path.suffix for path in paths[1:]} == {".png", ".svg"}
    for kind in ("efficiency", "replay_target", "quadratic", "training_generic", "spike", "cosine"):
        assert {f"{kind}_gsm8k.png", f"{kind}_gsm8k.svg"} <= names
    assert all(path.stat().st_size > 2000 for path in paths)
    assert {path.name for path in paths[0].parent.iterdir()} == {"report.html", "figures"}


def test_one_file_that_asks_for_nothing(written):
    html = written[2]
    shell = re.sub(r"<script.*?</script>", "", html, flags=re.S)
    assert not re.findall(r'(?:src|href)="(?!#|data:,")[^"]*"', shell)
    assert "url(" not in shell and "@import" not in shell
    assert len(re.findall(r"<script", html)) == 3
    assert html.count("window.vegaEmbed") == 1  # one copy of the library for all charts


def test_the_answer_comes_first_with_its_interval(written):
    study, _, html = written
    advice = advise(study)["gsm8k"][0]
    body = html[html.index("<main>") :]
    answer = body.index("90\u00a0% interval")
    assert body.index("<h1") < answer < body.index("<figure") < body.index("<nav")
    claim, cost = (
        words.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")
        for words in (advice.claim, advice.cost)
    )
    assert body.index(claim) < body.index(cost) < body.index("<dl")
    assert advice.verdict == "replay helps" and f"{advice.multiplier.value:.2f}×" in body


def test_every_part_is_there(written):
    html = written[2]
    anchors = re.findall(r'<section id="(\w+)">', html)
    assert anchors == [
        "why", "next", "doubts", "efficiency", "replay", "along", "cost", "boundary", "training",
        "runs", "time", "again",
    ]  # fmt: skip
    assert all(f'href="#{anchor}"' in html for anchor in anchors)
    for words in (
        "loss is not finite at step 310",
        "1 of 74 planned runs have no result",
        COMMAND,
        "a3f4b2c1d0e9f8a7",
        "75 % less",
        "all that is not a train step",
        "787,584 in the body",
    ):
        assert words in html, words


def test_charts_in_the_page_are_those_of_the_pictures(written):
    _, paths, html = written
    data = re.search(r'<script type="application/json" id="charts">(.*?)</script>', html, re.S)
    charts = json.loads(data[1])["charts"]
    assert set(charts) == {path.stem for path in paths[1:]}
    assert set(charts) == set(re.findall(r'class="chart" id="([^"]+)"', html))
    assert all(chart["width"] == "container" for chart in charts.values())


def test_the_same_study_gives_the_same_page(written):
    assert render_page(page_of(SMALL)) == written[2]


def test_names_from_outside_cannot_become_markup():
    hostile = '<img src=x onerror=alert(1)></script><script>alert("x")</script>'
    target = replace(GSM8K, name=hostile)
    study = FakeStudy((target,), seeds=(0, 1), allocations=(1.0,), candidate_budgets=(4096,))
    page = page_of(study, plan=replace(PLAN, name=hostile, question=hostile))
    row = {"series": hostile, "rho": 0.5, "value": 1.0, "setting": "", "seed": 0}
    chart = seeds_chart([row], field_title="value", zero=False)
    section = Section("hostile", hostile, (Figure("hostile", hostile, hostile, chart),))
    html = render_page(replace(page, sections=(*page.sections, section)))
    assert len(re.findall(r"</script>", html)) == 3
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.S)  # without the two programs
    assert "<img" not in own and own.count("&lt;img src=x") > 3
    charts = own[own.index('id="charts">') : own.index("</script>")]
    assert "\\u003cimg" in charts and "<" not in charts


def verdicts(target, **changes):
    study = analyse(fake_records(FakeStudy((target,), **changes)), CONFIG, resamples=400)
    return answers(study, advise(study))[0]


def test_no_effect_is_said_plainly():
    harmful = FakeTarget("harmful", 3.0, 1.0, 0.4, 0.001, 0.0, 1.0, 0.1)
    answer = verdicts(harmful, epochs=(4.0, 8.0, 16.0), allocations=(1.0,))
    assert answer.tone != "good"
    assert answer.sentence.startswith(("Replay does not help", "Cannot tell"))


def test_one_seed_cannot_tell():
    answer = verdicts(GSM8K, seeds=(0,))
    assert answer.tone == "doubt" and answer.sentence.startswith("Cannot tell")
    page = page_of(FakeStudy((GSM8K,), seeds=(0,), candidate_budgets=(4096,)))
    doubts = next(section for section in page.sections if section.anchor == "doubts")
    assert any("seed noise unknown" in item for b in doubts.blocks for item in b.items)


def test_a_study_without_replay_still_has_a_report(monkeypatch):
    without_pictures(monkeypatch)
    records = [r for r in fake_records(SMALL) if r["protocol"] == "uniform"]
    page = page_of(SMALL, records=records)
    assert page.answers[0].sentence == (
        "Nothing can be recommended for gsm8k: no budget has runs both with replay "
        "and at replay_fraction 0 (all are constant mixtures); add the missing runs."
    )
    assert "efficiency_gsm8k" in {figure.name for figure in page.figures()}
    assert "<h1" in render_page(page)


def test_too_few_budgets_are_named(monkeypatch):
    without_pictures(monkeypatch)
    page = page_of(FakeStudy(budgets=(4096, 8192), seeds=(0, 1), allocations=(1.0,)))
    text = render_page(page)
    assert "at least 3 budgets" in text
    assert "no reference law" in text


def test_terminal_shows_every_budget_and_fraction():
    both = FakeStudy((GSM8K, BASQUE), seeds=(0, 1), allocations=(1.0,))
    records = fake_records(both)
    study = analyse(records, CONFIG, resamples=200)
    console = Console(width=110, record=True, file=open(os.devnull, "w"), color_system=None)
    console.print(terminal_table(study, advise(study), records))
    text = console.export_text()
    for target in study.targets:
        assert f"target: {target.target}" in text
        for cell in target.cells:
            if cell.key.protocol != "uniform":
                line = rf"{cell.key.replay_fraction:g}\s+1\s.*"
                loss = rf"{cell.chosen.target_loss:.3f} \(.*{cell.chosen.generic_loss:.3f} \("
                assert re.search(line + loss, text), cell.label
    # Two targets have no room for their reference curves as well, and the terminal says so.
    assert text.count("1 table more in the report") == 2
    words = " ".join(text.split())
    for given in advise(study).values():
        assert given[0].claim in words and given[0].cost in words
        # What has no room is said to be there.
        left = sum(reason not in words for reason in given[0].reasons)
        assert left == 0 or f"- {left} more in the report" in words


def test_bits_per_byte_stand_beside_the_nats():
    records = fake_records(SMALL)
    for run in records:
        run["bits_per_byte"]["target"] = run["losses"]["target"] / 4
    study = analyse(records, CONFIG, resamples=100)
    advice = advise(study)
    (answer,) = answers(study, advice)
    change = -advice[study.targets[0].target][0].gain.value
    (tile,) = (tile for tile in answer.tiles if tile.label.startswith("target loss against"))
    assert tile.note.endswith(f" · −{abs(change / 4):.3f} bits per byte")
    (words, *_) = (table.words for table in losses_tables(study.targets[0]))
    assert "One nat per token of held-out gsm8k is 0.250 bits per byte." in words


def test_a_losses_table_has_one_baseline_and_says_it():
    study = analyse(fake_records(SMALL), CONFIG, resamples=200).targets[0]
    tables = losses_tables(study)
    assert len(tables) == len(study.budgets) == 2
    for table, tokens in zip(tables, study.budgets, strict=True):
        assert f"{tokens:,} target tokens" in table.title
        assert {len(row.cells) for row in table.rows} == {len(table.columns)}
        assert sum("baseline" in row.cells for row in table.rows) == 1
        assert "this table's baseline, two-stage, ρ 0, α 1, " in table.words
        (strong,) = (row.cells for row in table.rows if row.strong)
        titles = [column.title for column in table.columns]
        best = dict(zip(titles, strong, strict=True))
        assert (best["ρ"], best["α"]) == ("0.5", "0.5") and "×" in best["worth"]


def test_overhead_is_what_is_not_a_train_step():
    rows = [row.cells for row in time_table(TIME).rows]
    assert rows[-2] == ("all that is not a train step", "100.0 s", "25 %")
    assert rows[-1] == ("total", "6.7 min", "100 %")
    assert rows[0] == ("train steps", "5.0 min", "75 %")


def test_ledger_table_is_the_ledger():
    record = next(r for r in fake_records(SMALL) if r["replay_fraction"]["requested"] == 0.5)
    table = ledger_table(record, "A run", "gsm8k")
    whole = [row for row in table.rows if row.strong]
    assert [row.cells[1:4] for row in whole] == [
        (e["source"], f"{e['sequences']:,}", f"{e['tokens']:,}") for e in record["ledger"]["totals"]
    ]
    assert "ρ 0.5 (asked for 0.5)" in table.words and "not asked for" in table.words


def test_differing_versions_are_all_named():
    records = fake_records(SMALL)[:2]
    records[1]["versions"] = {**records[1]["versions"], "jax": "0.10.3"}
    cells = dict(row.cells for row in versions_table(records, PLAN).rows)
    assert cells["jax"] == "0.10.2 and 0.10.3"
    assert cells["data: wiki"] == "a3f4b2c1d0e9f8a7" and cells["processor"] == "a processor"


def test_numbers_in_words():
    assert between(Interval(2.0581, 1.7, 2.49), ".2f") == "2.06 (1.70–2.49)"
    assert between(Interval(2.0, None, 3.0), ".1f") == "2.0 (no lower bound to 3.0)"
    assert between(Interval(2.0, None, None), ".1f") == "2.0"
    assert between(Interval(None, None, None), ".1f") == between(None, ".1f") == "–"
    assert times(Interval(2.0, 1.5, 2.5, extrapolated=True)) == "2.00×† (1.50–2.50)"
    unbounded = Interval(16.05, 2.6, None, extrapolated=True)
    assert times(unbounded) == times(unbounded, bounds=False) == "at least 2.60×†"
    assert times(Interval(2.0, None, None)) == "2.00×"
    assert signed(Interval(-0.13, -0.16, -0.1)) == "−0.130 (−0.160 to −0.100)"
    assert signed(Interval(-0.05, -0.1, -0.0003)) == "−0.050 (−0.100 to +0.000)"  # no minus zero
    assert (number(1234567), number(None), number(0.5)) == ("1,234,567", "–", "0.5")
    assert (seconds(59.94), seconds(600), seconds(9000)) == ("59.9 s", "10.0 min", "2.5 h")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_only_the_freed_worth_is_said_to_be_free_of_luck():
    found = analyse(fake_records(SMALL), CONFIG, resamples=200)
    advice = advise(found)
    study = settled(found, advice).targets[0]
    usual = {each.target_tokens: times(each.usual.multiplier) for each in advice["gsm8k"]}
    for table, tokens in zip(losses_tables(study), study.budgets, strict=True):
        titles = [column.title for column in table.columns]
        (strong,) = (dict(zip(titles, row.cells, strict=True)) for row in table.rows if row.strong)
        assert strong["worth"] == usual[tokens]
        freed = "luck of the pick, but that of the best schedule that replays, which is freed of it"
        assert freed in table.words
    assert "luck of the pick" in controls_table(study, picks(study, advice["gsm8k"])).words


def test_without_a_law_no_table_speaks_of_worth():
    page = page_of(FakeStudy(budgets=(4096,), seeds=(0, 1), candidate_budgets=(4096,)))
    tables = [b for part in page.sections for b in part.blocks if isinstance(b, Table)]
    losses = [table for table in tables if table.title.startswith("Held-out losses at")]
    assert losses and all("Baseline: two-stage, ρ 0, α 1, 16 epochs." in t.words for t in losses)
    assert not any(column.title == "worth" for table in losses for column in table.columns)
    assert not any("Worth" in table.words or "†" in table.words for table in losses)
    assert not any(table.title == "Reference curve" for table in tables)


def test_rows_of_the_boundary_table_are_told_apart():
    records = fake_records(FakeStudy(seeds=(0, 1), candidate_budgets=(4096,)))
    other = [dict(run, id=f"w{run['id']}") for run in records if run["protocol"] != "uniform"]
    for run in other:
        run["overrides"] = run["overrides"] | {"optimizer.weight_decay": 0.8}
        run["config"] = run["config"] | {"optimizer": {"weight_decay": 0.8}}
    study = analyse(records + other, CONFIG, resamples=100).targets[0]
    table = boundary_table(study)
    titles = [column.title for column in table.columns]
    assert titles[:4] == ["target tokens", "also", "ρ", "α"]
    told = [row.cells[:4] for row in table.rows]
    assert len(set(told)) == len(told) == 8
    assert {cells[1] for cells in told} == {"", "weight decay 0.8"}


def test_doubts_say_the_same_once_and_that_nothing_beyond_was_run():
    records = fake_records(FakeStudy(seeds=(0, 1), replay_fractions=(0.0, 0.25, 0.5)))
    lacking = [run for run in records if not (run["seed"] == 1 and run["target_epochs"] == 8)]
    study = analyse(lacking, CONFIG, resamples=100)
    advice = advise(study)
    (block,) = doubts(study, advice, replace(PLAN, missing_runs=()))
    absent = [line for line in block.items if line.startswith("not among the planned runs")]
    places = len(study.targets[0].missing)
    assert places == 18 and len(absent) == 1
    assert f"no run of seed 1 (in {places} groups, e.g. two_stage" in absent[0]
    largest = "the best replay fraction is the largest sampled (0.5) (in 2 answers of 2, e.g. "
    assert any(line.startswith(largest) for line in block.items)


def test_what_was_varied_has_the_value_of_runs_that_were_given_none():
    records = fake_records(FakeStudy(seeds=(0,), budgets=(4096,), candidate_budgets=()))
    heavy = dict(records[0], overrides=records[0]["overrides"] | {"optimizer.weight_decay": 0.8})
    sloped = dict(records[0], overrides=records[0]["overrides"] | {"model": "wide"})
    rows = dict(row.cells for row in settings_table([records[0], heavy, sloped]).rows)
    assert rows["optimizer.weight_decay"] == "0.1, 0.8"
    assert rows["model"] == "as configured, wide"
    assert rows["seed"] == "0"
