"""The command `analyse`: the documented table in, the answer and a report out, without JAX."""

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from places import ROOT

from replay_jax.analysis.sources.files import read_table
from replay_jax.commands.main import main
from replay_jax.errors import UserError

TABLE = ROOT / "docs/examples/runs.csv"
HEAVY = ("jax", "flax", "optax", "orbax", "grain", "tensorflow_datasets")


ALONE = """
import importlib.abc, sys
class Without(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {absent}:
            raise ModuleNotFoundError(name + " is not installed here", name=name)
sys.meta_path.insert(0, Without())
import replay_jax.analysis.sources.tensorboard
from replay_jax.commands.main import main
sys.exit(main(['analyse', 'runs.csv']))
"""


def not_installed():
    """Top-level names of all that is here and that the documented line does not bring."""
    text = (ROOT / "docs/analyse.md").read_text()
    (line,) = (part for part in text.splitlines() if part.startswith("    pip install altair"))
    todo, found = shlex.split(line)[2:], set()
    while todo:
        asked = Requirement(todo.pop())
        extras = [{"extra": extra} for extra in asked.extras] + [{"extra": ""}]
        if asked.name.lower() not in found:
            found.add(asked.name.lower())
            for further in map(Requirement, metadata.requires(asked.name) or ()):
                if further.marker is None or any(map(further.marker.evaluate, extras)):
                    todo.append(str(further).partition(";")[0])
    known = metadata.packages_distributions()
    brought = {top for top, dists in known.items() if found & {dist.lower() for dist in dists}}
    return set(known) - brought - {"replay_jax"}


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    """The documented command with the documented packages alone: what it printed, the report."""
    folder = tmp_path_factory.mktemp("analysed")
    shutil.copy(TABLE, folder)
    absent = not_installed()
    assert set(HEAVY) < absent
    program = ALONE.format(absent=absent)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, folder / "runs_report"


def test_the_documented_table_gives_the_documented_answer(analysed):
    text = " ".join((ROOT / "docs/analyse.md").read_text().split())
    answer = next(
        part for part in " ".join(analysed[0].split()).split(" - ") if "Replay helps" in part
    )
    sentence = answer[answer.index("Replay helps") :]
    assert sentence in text and "generic" not in sentence
    first, second = TABLE.read_text().splitlines()[:2]
    assert f"{first} {second}" in text


def test_a_report_stands_beside_the_table(analysed):
    _, folder = analysed
    html = (folder / "report.html").read_text()
    assert "worth 1.82 times" in html and "generic loss against" not in html
    assert "no column generic_loss" in html and 'id="cost"' not in html
    assert {path.suffix for path in (folder / "figures").iterdir()} == {".png", ".svg"}


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_json_is_that_of_recommend_whatever_the_file(tmp_path, capsys, monkeypatch, ending):
    import pyarrow.csv
    import pyarrow.parquet

    from replay_jax.commands import analyse

    monkeypatch.setattr(analyse, "draw_figures", lambda figures: {})
    monkeypatch.setattr(analyse, "render_page", lambda page, drawings: "")
    table = pyarrow.csv.read_csv(TABLE)
    path = tmp_path / f"runs{ending}"
    if ending == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    assert main(["analyse", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "replay helps" and found["replay_fraction"]["value"] == 0.75
    low, high = found["multiplier"]["low"], found["multiplier"]["high"]
    assert low < 1.8 < high  # the worth that the table was drawn with
    assert found["generic_cost_nats"] is None and found["next_runs"] == []


def test_cells_are_told_as_arrow_tells_them(tmp_path):
    """Of a column with words all are text; elsewhere what is missing is None."""
    import pyarrow.csv

    path = tmp_path / "runs.csv"
    path.write_text(
        "\N{ZERO WIDTH NO-BREAK SPACE}whole,number,truth,name,mixed,lacks,code\r\n"
        '1,1e-3,true,a,1,,1_0\r\n\r\n-20,NA,False,,x,NaN,2\r\n,inf,,"b, ""c""",2.5,,3\r\n'
    )
    found = read_table(path)
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True)
    assert found == pyarrow.csv.read_csv(path, convert_options=options).to_pydict()
    assert found["whole"] == [1, -20, None] and found["truth"] == [True, False, None]
    assert found["code"] == ["1_0", "2", "3"] and found["mixed"] == ["1", "x", "2.5"]


def test_the_records_of_a_sweep_are_analysed_as_their_directory(tmp_path, capsys, monkeypatch):
    from replay_jax.analysis.runs.records import load_records
    from replay_jax.commands import analyse
    from replay_jax.library.gathering import gathered
    from replay_jax.report.advice import advise

    shown = []
    monkeypatch.setattr(analyse, "draw_figures", lambda figures: {})
    monkeypatch.setattr(analyse, "render_page", lambda page, drawings: shown.append(page) or "")
    path = tmp_path / "results.jsonl"
    shutil.copy(ROOT / "experiments/placement/results.jsonl", path)
    assert main(["analyse", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    study = gathered([("w", record) for record in load_records(path)]).study
    (answers,) = advise(study).values()
    assert found["sentence"] == answers[0].sentence and len(found["others"]) == len(answers) - 1
    assert found["next_runs"]  # the trainer is known
    assert [part.anchor for part in shown[0].sections][-1] == "runs"
    path.write_text(path.read_text() + "{}\n")
    assert main(["analyse", str(path)]) == 2
    assert "line 28 is no record of a run" in capsys.readouterr().err


def test_a_second_opinion_without_its_sampler_says_how_to_install_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    table = shutil.copy(TABLE, tmp_path)
    assert main(["analyse", str(table), "--second_opinion"]) == 2
    assert "pip install 'replay-jax[bayes]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


@pytest.mark.parametrize("between", [";", "\t"])
def test_a_spreadsheet_of_decimal_commas_is_read(tmp_path, between):
    path = tmp_path / "runs.csv"
    cells = ["rho;budget;name;loss", "0,5;2000;a,b;2,25", ";4000;1,5 x;-1,5e-2"]
    path.write_text("\ufeff" + "\r\n".join(cells).replace(";", between), encoding="utf-8")
    found = read_table(path)
    assert found["rho"] == [0.5, None] and found["loss"] == [2.25, -0.015]
    assert found["budget"] == [2000, 4000] and found["name"] == ["a,b", "1,5 x"]
    path.write_text("rho;loss\n0.5;2.2500\n")
    assert read_table(path) == {"rho": [0.5], "loss": [2.25]}
    path.write_text("rho;budget\n0,5;20.000\n")
    with pytest.raises(UserError, match="decimal commas, so '20.000' may be two"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("runs.txt", "", "are read from .csv, .tsv, .jsonl, .parquet"),
        ("runs.csv", "rho,seed\n", "holds no run"),
        ("runs.csv", "rho,seed\n1,2,3\n", "cannot be read"),
        ("runs.jsonl", 'null\n{"a": 1}\n', "line 1 is no JSON object"),
        ("runs.jsonl", '{"a": 1}\n{"a": [1]}\n', "cannot be read"),
        ("runs.jsonl", f'{{"a": 1.5}}\n{{"a": 1{"0" * 400}}}\n', "cannot be read"),
        ("runs.csv", "rho,rho\n1,2\n", "cannot be read: two columns have one name, 'rho'"),
        ("runs.csv", 'rho,name\n1,"a\n', "cannot be read"),
        ("runs.jsonl", "[" * 99999, "cannot be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, capsys, name, text, words):
    (tmp_path / name).write_text(text)
    assert main(["analyse", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("given", [(), ("runs.csv", "--wandb=team/project")])
def test_runs_are_of_one_place(capsys, given):
    assert main(["analyse", *given]) == 2
    assert "give one place of runs" in capsys.readouterr().err


def test_bytes_that_are_no_text_are_refused_where_the_table_is_read(tmp_path):
    path = tmp_path / "runs.csv"
    for content in (b"rho,name\n0.5,caf\xe9\n", b"rho,caf\xe9\n0.5,a\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="runs.csv cannot be read: it is no UTF-8 text; save"):
            read_table(path)
