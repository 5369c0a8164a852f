"""The command `analyse` and the user's own words: names, brackets, blank cells, own columns."""

import json
from pathlib import Path

import pytest
from places import ROOT

from replay_jax.commands import analyse
from replay_jax.commands.main import main

ROWS = (ROOT / "docs/examples/runs.csv").read_text().splitlines()


@pytest.fixture
def said(tmp_path, capsys, monkeypatch):
    """Runs the command on lines of a file, without its report: exit code, output, error."""
    monkeypatch.setattr(analyse, "draw_figures", lambda figures: {})
    monkeypatch.setattr(analyse, "render_page", lambda page, drawings: "")

    def run(lines, *options, name="runs.csv"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        code = main(["analyse", str(tmp_path / name), *options])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def with_column(name, value_of):
    """The example with a column of the user's; `value_of` its row's number and cells."""
    head, *rows = ROWS
    own = (value_of(number, row.split(",")) for number, row in enumerate(rows))
    return [f"{head},{name}", *(f"{row},{value}" for row, value in zip(rows, own, strict=True))]


def test_brackets_in_names_and_paths_are_words(said):
    lines = with_column("model", lambda number, row: "x[red]y")
    lines += [f"{row.rsplit(',', 1)[0]},m[/]:smile:" for row in lines[1:]]
    code, out, _ = said(lines, "--axes=model", name="sweep[bold]lr.csv")
    assert code == 0 and "sweep[bold]lr_report/report.html" in "".join(out.split())
    assert "model x[red]y" in out and "model m[/]:smile:" in out
    diverged = [ROWS[0] + ",name", *(f"{row},a[/b]" for row in ROWS[1:])]
    diverged[1] = diverged[1].replace(ROWS[1].split(",")[-1], "nan")
    code, out, _ = said(diverged)
    assert code == 0 and "row 1 (a[/b])" in out


def test_no_command_reads_the_users_words_as_markup():
    made = [
        (path.name, line)
        for path in (Path(analyse.__file__).parent).rglob("*.py")
        for line in path.read_text().splitlines()
        if " Console(" in line or "\tConsole(" in line
    ]
    assert made and all("markup=False, emoji=False" in line for _, line in made), made


@pytest.mark.parametrize("column", ["target", "protocol", "loss_unit", "evaluation"])
def test_a_blank_cell_is_missing_in_every_format(said, column):
    value = "nats" if column == "loss_unit" else "a"
    lines = with_column(column, lambda number, row: value if number else "")
    code, _, err = said(lines)
    assert code == 2 and f"row 1 has no {column}: fill it in" in err
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    plain = [{n: v if n == column else float(v) for n, v in row.items()} for row in rows]
    plain[0][column] = None
    assert said(map(json.dumps, plain), name="runs.jsonl") == (code, "", err)


def test_a_blank_name_is_that_of_the_row(said):
    lines = with_column("name", lambda number, row: "" if number else "first")
    code, out, _ = said(lines, "--json")
    assert code == 0 and out == said(ROWS, "--json")[1]


def test_columns_without_a_name_are_left_out_and_said(said):
    """As pandas writes its index, and a spreadsheet its empty columns."""
    answer = said(ROWS, "--json")[1]
    indexed = [f"{number - 1 if number else ''},{row}" for number, row in enumerate(ROWS)]
    again = [f"Unnamed: 0,{ROWS[0]}", *(f"{number},{row}" for number, row in enumerate(ROWS[1:]))]
    for lines in (indexed, again, [f"{row},," for row in ROWS]):
        assert said(lines, "--json")[1] == answer
        assert "note: left out: columns without a name" in said(lines)[1]


def test_names_of_ones_own_are_alike_whatever_their_case_and_spaces(said):
    spaced = with_column("Learning Rate", lambda number, row: 1 + number % 2 / 10)
    spaced = [line.replace(",", ",  ") for line in spaced]
    code, out, err = said(spaced, "--tuned= learning_rate", "--json")
    assert code == 0, err
    assert "Learning Rate" in json.dumps(json.loads(out)["overrides"])
    comma = with_column('"lr, peak"', lambda number, row: 1)
    assert said(comma, '--tuned="lr, peak"')[0] == 0


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--tuned=rho", "column 'rho', as replay_fraction, can be neither tuned nor an axis"),
        ("--axes=seed", "column 'seed', as seed, can be neither tuned nor an axis"),
        ("--ignore=epoch", "no column 'epoch'; the nearest in the table is 'epochs'"),
        ("--column=los=eval_loss", "no column 'los' to be named; the nearest is 'target_loss'"),
        ("--reference=rh=0", "names no column: 'rh'; the nearest is 'rho'"),
        ("--level=90", "level is a number between 0 and 1, such as 0.9, not 90"),
        ("--tuned=epochs --axes=epochs", "'epochs' is named as tuned and as an axis: choose one"),
    ],
)
def test_what_cannot_be_said_of_a_column_is_refused(said, option, words):
    code, out, err = said(ROWS, *option.split())
    assert (code, out) == (2, "") and words in err


def test_a_column_may_be_named_by_any_of_its_names(said):
    renamed = [ROWS[0].replace("eval_loss", "nll"), *ROWS[1:]]
    assert said(renamed, "--column=loss=NLL", "--json")[1] == said(ROWS, "--json")[1]


@pytest.mark.parametrize("name", ["epochs", "target_epochs"])
def test_epochs_that_are_an_axis_are_no_longer_tuned(said, name):
    code, out, _ = said(ROWS, f"--axes={name}", "--json")
    found = json.loads(out)
    every = [found, *found["others"]]
    assert code == 0 and [each["target_epochs"] for each in every] == [16, 8]
    assert [each["overrides"]["target_epochs"] for each in every] == [16, 8]
    tuned = said(ROWS, f"--tuned={name}", "--json")[1]
    assert tuned == said(ROWS, "--json")[1]


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/", "/ has no folder around it for a report: give the folder of the runs"),
        ("https://example.com/runs.csv", "is not on this machine: download it, and give the file"),
        ("s3://", "'s3://' is neither a folder nor a place in a bucket"),
        ("gs:/b/runs", "lacks a slash: write gs://b/runs"),
        ("{here}/nothing", "no file {here}/nothing"),
        ("{here}/w", "is a working directory of replay-jax: say replay-jax recommend {here}/w"),
        ("{here}/runs.csv.gz", "unpack it, or save it as one of these"),
    ],
)
def test_a_place_without_runs_is_refused(tmp_path, capsys, place, words):
    (tmp_path / "w").mkdir()
    for name in ("w/workdir.json", "w/results.jsonl", "runs.csv.gz"):
        (tmp_path / name).write_text("{}")
    assert main(["analyse", place.format(here=tmp_path)]) == 2
    assert words.format(here=tmp_path) in capsys.readouterr().err


def test_what_may_not_be_read_is_named(tmp_path, capsys, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied", "run/events")

    from replay_jax.analysis.sources import tensorboard

    monkeypatch.setattr(tensorboard, "_run_folders", denied)
    assert main(["analyse", str(tmp_path)]) == 2
    assert "run/events cannot be read: Permission denied" in capsys.readouterr().err


def test_a_suffix_may_be_in_capitals_and_tabs_have_one(said):
    answer = said(ROWS, "--json")[1]
    assert said(ROWS, "--json", name="RUNS.CSV")[1] == answer
    tabs = [row.replace(",", "\t") for row in with_column("a;b", lambda number, row: "1;2")]
    tabs[0] = tabs[0].replace("a;b", '"x, y"')
    assert said(tabs, '--ignore="x, y"', "--json", name="runs.tsv")[1] == answer


def test_a_line_of_json_that_is_none_is_named(said):
    lines = ['{"rho": 0}', "", '{"rho": 0, }']
    assert "line 3, column 12: " in said(lines, name="runs.jsonl")[2]
    assert "line 2 is no JSON object" in said(['{"rho": 0}', "[1]"], name="runs.jsonl")[2]
