"""The terminal: no interval is cut at any width, nothing raw, a bounded number of lines."""

import io
import re

import pytest
from fake_records import BASQUE, GSM8K, FakeStudy, fake_records
from fake_report import CONFIG
from rich.console import Console

from replay_jax.analysis.study.analyse import analyse
from replay_jax.report.advice import advise
from replay_jax.report.answer import answers
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.naming import named, unnamed
from replay_jax.report.tables.screen import rich_table
from replay_jax.report.terminal import MOST_LINES, terminal_table

LINEAR = {"shape": "linear", "peak": 0.001}
BIG, SMALL = ({"num_layers": n, "embed_dim": 64 * n, "rope": {"theta": 1.0}} for n in (4, 2))
KNOWN = {"model": {"big": BIG, "huge": {**BIG, "num_layers": 9, "embed_dim": 9, "rope": {}}}}


def shown(records, *, width):
    study = analyse(records, CONFIG, resamples=60)
    advice = advise(study)
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal_table(study, advice, records))
    return study, advice, console.file.getvalue()


@pytest.fixture(scope="module")
def small():
    return fake_records(FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0, 0.5)))


@pytest.mark.parametrize("width", [60, 80, 110])
def test_no_interval_is_cut_at_any_width(small, width):
    study, _, text = shown(small, width=width)
    assert "…" not in text and max(map(len, text.split("\n"))) <= width
    for cell in study.targets[0].cells:
        if cell.baseline is not None and cell.key.protocol != "uniform":
            low, high = cell.target_loss.low, cell.target_loss.high
            assert f"({low:.3f}–{high:.3f})" in text, cell.label
            low, high = cell.generic_loss.low, cell.generic_loss.high
            assert f"({low:.3f}–{high:.3f})" in text, cell.label


def test_a_column_that_has_no_room_is_said(small):
    _, _, text = shown(small, width=60)
    assert "seeds 2 in every row" in " ".join(text.split())


def test_any_study_has_a_bounded_number_of_lines():
    target = FakeStudy((GSM8K, BASQUE), seeds=(0,), allocations=(1.0,), epochs=(16.0,))
    records = []
    for number in range(12):
        for record in fake_records(target):
            record["overrides"]["model"] = f"model {number}"
            record["id"] = f"{number}-{record['id']}"
            if record["protocol"] != "uniform" or number == 0:
                records.append(record)
    study, advice, text = shown(records, width=80)
    assert text.count("\n") <= MOST_LINES and "more in the report" in text
    for answer in answers(study, advice):
        assert answer.sentence.replace("\u00a0", " ") in " ".join(text.split())


def test_every_budget_and_protocol_is_answered_and_named(small):
    other = [dict(r) for r in small if r["protocol"] != "uniform"]
    for record in other:
        record |= {"protocol": "fine_tuning", "id": f"f{record['id']}"}
        record["overrides"] = record["overrides"] | {"schedule.protocol": "fine_tuning"}
        gap = record["losses"]["target"] - 0.3 * (record["replay_fraction"]["requested"] == 0.5)
        record["losses"] = record["losses"] | {"target": gap}
    study, advice, text = shown(small + other, width=80)
    keys = [study.targets[0].cells[found.best].key for found in advice["gsm8k"]]
    assert {(k.target_tokens, k.protocol) for k in keys} == {
        (tokens, protocol) for tokens in (4096, 8192) for protocol in ("two_stage", "fine_tuning")
    }
    assert (keys[0].target_tokens, keys[0].protocol) == (4096, "fine_tuning")  # the lower loss
    table = answers(study, advice)[0].groups
    assert [column.title for column in table.columns][:3] == [
        "target tokens",
        "protocol",
        "verdict",
    ]
    others = " ".join(answers(study, advice)[0].others)
    assert others.count("At 4,096 target tokens, ") == 1 and others.count("At 8,192 ") == 2
    # Both with plain spaces: the page keeps "ρ = 0" unbroken.
    assert " ".join(others.split()) in " ".join(text.split())
    assert len(table.rows) == 4 and [row.strong for row in table.rows].count(True) == 1
    assert re.search(r"4,096\s+fine-tuning\s+replay", text)


def test_a_baseline_at_the_edge_of_its_grid_is_amber_and_said():
    records = fake_records(FakeStudy((GSM8K,), seeds=(0, 1), allocations=(1.0,)))
    study, advice, text = shown(records, width=80)
    found = advice["gsm8k"][0]
    assert found.verdict == "replay helps" and study.targets[0].cells[found.usual.against].at_edge
    assert answers(study, advice)[0].tone == "doubt"
    assert "the usual recipe lies at the edge of its grid" in " ".join(text.split())


def test_an_open_range_is_said_in_words_and_incomplete_only_of_what_was_planned():
    records = fake_records(FakeStudy((GSM8K,), seeds=(0, 1), replay_fractions=(0.0, 0.25, 0.5)))
    lacking = [r for r in records if not (r["seed"] == 1 and r["replay_fraction"]["requested"])]
    study = analyse(lacking, CONFIG, resamples=60)
    unfinished = [r for found in advise(study)["gsm8k"] for r in found.reasons]
    finished = [r for found in advise(study, complete=True)["gsm8k"] for r in found.reasons]
    assert any(r.endswith("runs that others have") for r in unfinished)
    assert not any(r.endswith("runs that others have") for r in finished)
    found = advise(analyse(records, CONFIG, resamples=60))["gsm8k"][0]
    assert found.replay_fraction.high is None
    assert "?" not in found.sentence
    assert f"(plausible from {found.replay_fraction.low:.2g} up)" in found.sentence


def test_tables_of_values_are_said_by_name():
    swept = [
        {"model": BIG, "schedule.stage2_learning_rate": None, "schedule.stages": []},
        {"model": {**BIG, "num_layers": 5}, "schedule.stage2_learning_rate": LINEAR},
        {"model": SMALL, "schedule.stages": [{"name": "first"}, {"name": "second"}]},
    ]
    records = [{"overrides": overrides, "seed": 1} for overrides in swept]
    said = [record["overrides"] for record in named(records, KNOWN)]
    assert [overrides["model"] for overrides in said] == [
        "big", "big, num layers 5", "big, num layers 2, embed dim 128",
    ]  # fmt: skip
    assert said[1]["schedule.stage2_learning_rate"] == "shape linear, peak 0.001"
    assert said[2]["schedule.stages"] == "first → second"
    assert all("{" not in str(value) for each in said for value in each.values())
    for own, overrides in zip(said, swept, strict=True):
        assert unnamed(own, records, KNOWN) == overrides


def test_values_of_one_name_stay_apart():
    stages = [[{"name": "a", "steps": 1}], [{"name": "a", "steps": 2}]]
    records = [{"overrides": {"schedule.stages": value}} for value in stages]
    said = [record["overrides"]["schedule.stages"] for record in named(records, {})]
    assert said == ["a", "a (2)"]


@pytest.mark.parametrize("width", range(30, 100, 5))
def test_every_word_of_every_cell_is_whole_at_any_width(width):
    columns = ("target tokens", "also", "verdict", "ρ", "worth", "target loss")
    cells = ("4,096", "weight decay 0.8", "replay helps", "0.75", "1.75× (1.60–1.92)",
             "−0.213 (−0.242 to −0.183)")  # fmt: skip
    table = Table(
        "Every answer", tuple(Column(title, "right") for title in columns), (Line(cells, True),)
    )
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(rich_table(table, width))
    text = console.file.getvalue()
    assert max(map(len, text.split("\n"))) <= width
    assert {word for cell in cells for word in cell.split()} <= set(text.split())
    assert all(title in " ".join(text.split()) for title in ("verdict", "ρ", "worth"))
