"""What `report` does where it cannot write, and commands where a terminal lacks a letter."""

import dataclasses
import io
import json
import sys
from functools import partial

import pytest
from etils import epath
from fake_records import FakeStudy, fake_records
from rich.console import Console

from replay_jax.commands import sweep
from replay_jax.commands.main import main
from replay_jax.errors import UserError
from replay_jax.library import reporting
from replay_jax.library.gathering import gather, gathered
from replay_jax.report.advice import advise

SMALL = FakeStudy(seeds=(0,), allocations=(1.0,), epochs=(16.0,), candidate_budgets=(4096,))
UNIFORM = {"protocol": "uniform"}
PLAN = {"steps_alone": 100, "steps_planned": 50}


@pytest.fixture
def workdir(tmp_path):
    """A working directory as `run` leaves it, of runs that nobody trained."""
    folder = epath.Path(tmp_path / "study")
    folder.mkdir()
    fill(folder, fake_records(SMALL))
    return folder


def fill(folder, records, *, name="fake", reference=UNIFORM):
    for record in records:
        analysis = {"reference": reference, "tuned": [], "level": 0.9}
        record["config"]["analysis"] = analysis
        record["machine"], record["environments"] = {}, ["here"]
        record["config"]["name"] = name
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "results.jsonl").write_text(lines)
    about = {"name": name, "question": "How much?", "command": "replay-jax run fake.py", **PLAN}
    (folder / "recipe.json").write_text(json.dumps(about))


def test_a_folder_that_cannot_be_written_is_said_in_one_sentence(workdir, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reporting, "write_report", refuse)
    monkeypatch.setattr(reporting, "sweep_status", lambda _: {"runs": []})
    with pytest.raises(UserError, match="cannot be written into .*: Permission denied"):
        reporting.report_on([workdir], Console(quiet=True))


def test_a_terminal_that_lacks_a_letter_ends_no_command(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", screen)
    assert main(["recommend", "no such folder \u03c1"]) == 2
    screen.flush()
    assert b"no working directory 'no such folder ?'" in screen.buffer.getvalue()


def test_all_sweeps_of_working_directories_make_one_study(tmp_path):
    """A reference sweep, then candidates in the same folder, then a fraction more in another."""
    records = fake_records(SMALL)
    reference = [r for r in records if r["protocol"] == "uniform"]
    candidates = [r for r in records if r["protocol"] != "uniform"]
    first, second = (epath.Path(tmp_path / name) for name in ("first", "second"))
    more = [r for r in candidates if r["replay_fraction"]["requested"] == 0.75]
    fewer = [r for r in candidates if r["replay_fraction"]["requested"] != 0.75]
    for folder, own, name, wanted in (
        (first, reference, "law", {"protocol": "uniform"}),
        (first, fewer, "candidates", {"replay_fraction": 0.0}),
        (second, more, "more", {"replay_fraction": 0.0}),
    ):
        (folder / "results").mkdir(parents=True, exist_ok=True)
        fill(folder, own, name=name, reference=wanted)
        for record in own:
            (folder / "results" / f"{record['id']}.json").write_text(json.dumps(record))
    alone = gather([first])
    assert len(alone.records) == len(reference) + len(fewer)
    assert alone.records[0]["config"]["name"] == "candidates"  # the last sweep's come first
    assert alone.study.targets[0].curve is not None  # by the reference of the earlier sweep
    both = gather([first, second])
    assert len(both.records) == len(records)
    assert sorted(both.sources) == sorted([
        f"{len(reference)} runs of law in {first}", f"{len(fewer)} runs of candidates in {first}",
        f"{len(more)} run of more in {second}",
    ])  # fmt: skip
    found = advise(both.study)["gsm8k"]
    assert found[0].multiplier is not None and found[0].multiplier.value > 1

    other = dict(more[0], id="other", evaluation="another set")
    (second / "results" / "other.json").write_text(json.dumps(other))
    assert gather([first, second]).sources[-1] == "left out, judged on other held-out text: 1 run"


def test_sweeps_that_differ_in_what_neither_swept_are_told_apart(tmp_path):
    folder = epath.Path(tmp_path)
    (folder / "results").mkdir()
    records = fake_records(SMALL)
    deeper = [dict(r, id=f"d{r['id']}") for r in fake_records(SMALL)]
    for record in deeper:
        record["config"]["model"] = record["config"]["model"] | {"num_layers": 8}
    fill(folder, deeper, name="deeper")
    fill(folder, records, name="usual")
    for record in (*records, *deeper):
        (folder / "results" / f"{record['id']}.json").write_text(json.dumps(record))
    study = gather([folder]).study.targets[0]
    assert {cell.key.axes for cell in study.cells} == {
        (("model.num_layers", "4"),), (("model.num_layers", "8"),),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("newer", "axes"),
    [
        ({"dropout": 0.0, "chat": None}, {()}),
        ({"dropout": 0.1, "chat": "x"}, {
            (("data.chat", "not set"), ("training.dropout", "0")),
            (("data.chat", "x"), ("training.dropout", "0.1")),
        }),
    ],
)  # fmt: skip
@pytest.mark.parametrize("order", [1, -1])
def test_runs_of_before_a_field_have_what_stands_for_none(tmp_path, newer, axes, order):
    """Which of the two comes first is no matter, and neither has a field the other cannot have."""
    both = []
    for name, fields, seed in (("older", {}, 0), ("newer", newer, 1)):
        records = fake_records(dataclasses.replace(SMALL, seeds=(seed,)))
        for record in records:
            config = record["config"]
            training, chat = ({k: fields[k]} if fields else {} for k in ("dropout", "chat"))
            record["config"] = config | {
                "training": training,
                "data": config["data"] | chat,
            }
        fill(epath.Path(tmp_path), records, name=name)
        both += [("w", record) for record in records]
    found = {cell.key.axes for cell in gathered(both[::order]).study.targets[0].cells}
    assert found == axes


SPLIT = "data.sources.wiki.split"


@pytest.mark.parametrize(
    ("of", "axes"), [("unread", {()}), ("wiki", {((SPLIT, "a"),), ((SPLIT, "b"),)})]
)
def test_sweeps_are_told_apart_by_the_sources_that_their_runs_read_alone(tmp_path, of, axes):
    """A study of three targets and one of one of these have runs alike, whatever else is there."""
    folder = epath.Path(tmp_path)
    both = []
    for name, split, seed in (("whole", "a", 0), ("part", "b", 1)):
        records = fake_records(dataclasses.replace(SMALL, seeds=(seed,)))
        for record in records:
            sources = {"wiki": {"split": "a"}, of: {"split": split}}
            kept = {n: v for n, v in sources.items() if (n, name) != ("unread", "part")}
            record["config"]["data"] = record["config"]["data"] | {"sources": kept}
        fill(folder, records, name=name)
        both += [("w", record) for record in records]
    found = {cell.key.axes for cell in gathered(both).study.targets[0].cells}
    assert found == axes


def test_the_introduction_is_of_this_study():
    recipe = {"question": "How much?\n\nLong story.", "command": "replay-jax run c.py"}
    assert reporting._introduction(recipe, ["one"], []) == "How much?"
    changed = recipe | {"command": "replay-jax run c.py --config.data.target=code"}
    words = reporting._introduction(changed, ["a", "b"], ["Within a budget."])
    assert words.split("\n") == [
        "How much?",
        "Changed on the command line: data.target=code.",
        "Within a budget.",
        "Runs: a; b.",
    ]


def test_advice_breaks_between_words_on_a_screen_and_says_runs_in_their_order(
    workdir, monkeypatch, capsys
):
    monkeypatch.chdir(workdir.parent)
    (workdir / "results").mkdir()
    records = [dict(r, overrides=r["overrides"] | {"note": "[b] a word"}) for r in fake_records(
        dataclasses.replace(SMALL, seeds=(0, 1))
    )]  # fmt: skip
    fill(workdir, records)
    for record in records:
        (workdir / "results" / f"{record['id']}.json").write_text(json.dumps(record))

    def said(width, screen):
        make = partial(Console, width=width, force_terminal=screen, color_system=None)
        monkeypatch.setattr(sweep, "Console", make)
        assert main(["recommend", workdir.name]) == 0
        return capsys.readouterr().out

    piped, screen = said(60, False), said(60, True)
    assert max(map(len, piped.split("\n"))) > 200 and "note = [b] a word" in piped
    assert max(map(len, screen.split("\n"))) <= 60
    assert screen.split() == piped.split()
    starts = [line.split(" ")[0] for line in piped.strip().split("\n")]
    assert starts[0] == "gsm8k:" and starts[-1] == "next,"
    assert starts.index("the") == starts.index("next,") - 1
    assert "the first seed of what is recommended is run " in piped
