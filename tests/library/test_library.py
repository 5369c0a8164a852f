"""`import replay_jax`: light, complete, typed; and docs/library.md does what it says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fake_report import without_pictures
from in_process import in_this_process
from places import ROOT
from tiny_sweep import write_recipe

import replay_jax
from replay_jax.errors import UserError
from replay_jax.sweep.store.lock import WorkdirLock

PAGE = (ROOT / "docs" / "library.md").read_text()
BLOCKS = re.findall(r"^```python ?(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page, read from top to bottom in a folder with a small study; what its names are then."""
    folder = tmp_path_factory.mktemp("library")
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch, in_this_process():
        patch.chdir(folder)
        without_pictures(patch)
        write_recipe(folder)
        for needs, block in BLOCKS:
            if not needs:
                exec(compile(block, "docs/library.md", "exec"), names)
        yield names


def block(name: str) -> str:
    (found,) = (text for needs, text in BLOCKS if needs == name)
    return found


def test_the_page_runs(page):
    assert page["outcome"].results == len(page["plan"].runs) == 2
    assert page["plan"].steps_planned < page["plan"].steps_naive


def test_results_are_columns_of_equal_length(page):
    table = page["table"]
    assert table["replay_fraction"] == [0.0, 0.5] == table["schedule.replay_fraction"]
    assert {len(column) for column in table.values()} == {2}
    records = [json.loads(line) for line in open("runs/study/results.jsonl")]
    assert table["loss_target"] == [record["losses"]["target"] for record in records]
    assert table["id"] == [run.id for run in page["plan"].runs]


def test_batches_are_the_ones_that_the_ledger_counts(page):
    run, batches = page["plan"].runs[1], page["batches"]
    assert len(batches) == run.steps
    seen = {name: 0 for name in run.schedule.source_names}
    for step in range(len(batches)):
        for source in batches[step]["source"].tolist():
            seen[run.schedule.source_names[source]] += 1
    assert seen == {entry.source: entry.sequences for entry in run.ledger.totals}


@pytest.mark.parametrize("name", ["torch", "pandas"])
def test_examples_with_other_packages(page, name):
    """Not packages that this one needs: where they are, their examples run."""
    module = pytest.importorskip(name)
    exec(compile(block(name), "docs/library.md", "exec"), {**page, name: module})


def test_the_end_of_a_run_is_exported_as_long_as_it_is_kept(page):
    exec(compile(block("keep"), "docs/library.md", "exec"), dict(page))
    assert (Path("models/study") / "model.safetensors").is_file()
    for end in Path("runs/study/ends").iterdir():
        shutil.rmtree(end)
    with pytest.raises(UserError, match="was not kept: train it in another --workdir"):
        replay_jax.export("runs/study", page["plan"].runs[1].id, "models/again")
    with pytest.raises(UserError, match="no run 'nothing' in .*: give an id or a name"):
        replay_jax.export("runs/study", "nothing", "models/x")


def test_a_refused_run_leaves_the_running_ones_facts_alone(page, tmp_path):
    """The lock is taken before anything is written: not even what the sweep asks is changed."""
    before = {path: path.read_bytes() for path in tmp_path.parent.rglob("runs/study/*.json*")}
    other = replay_jax.load_recipe("study.py", {"schedule.total_steps": 36})
    with (
        WorkdirLock("runs/study"),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(UserError, match="is in use by process"),
    ):
        defaults = WorkdirLock.__init__.__kwdefaults__
        patch.setattr(WorkdirLock.__init__, "__kwdefaults__", {**defaults, "patience": 0.0})
        replay_jax.run(other, "runs/study")
    assert before == {path: path.read_bytes() for path in before}


def test_every_public_name_is_there_with_a_docstring():
    assert set(replay_jax.__all__) <= set(dir(replay_jax))
    for name in replay_jax.__all__:
        assert getattr(replay_jax, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = replay_jax.nothing


def test_importing_it_brings_nothing_along():
    code = (
        "import sys; old = set(sys.modules); import replay_jax; print(len(set(sys.modules) - old))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(found.stdout.split()) < 10
