"""Runs in words: presets by name, other tables of values by what tells them apart, never whole."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from replay_jax.config.recipe import load_recipe
from replay_jax.library.plan_shown import ledger_table
from replay_jax.library.planning import plan
from replay_jax.model.presets import PRESETS
from replay_jax.strict import to_plain
from replay_jax.sweep.drive.drawing import plan_tree
from replay_jax.sweep.plan.naming import run_names


@pytest.fixture(scope="module")
def models():
    """A sweep over three models and their peaks."""
    return plan(load_recipe("paper/model_scaling", {"scale": "tiny", "seeds": 2}))


@pytest.mark.parametrize("width", [60, 80, None])
def test_a_plan_names_the_models_of_a_sweep(models, width):
    """As wide as a terminal, or as a pipe is taken to be."""
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None)
    console.print(plan_tree(models))
    console.print(ledger_table(models, console.width))
    text = file.getvalue()
    assert "{" not in text and "…" not in text
    assert max(map(len, text.split("\n"))) <= (width or console.width)
    words = " ".join(text.split())
    assert "model=embed dim 32|embed dim 48|embed dim 64 peak=0.003|0.002|0.0015" in words
    assert text.count("\n") < 45


def test_what_parts_from_one_trunk_stands_in_one_column():
    """Half as deep with every parting below the last one, and deeper than a screen at twenty."""
    file = io.StringIO()
    console = Console(file=file, width=110, color_system=None)
    console.print(plan_tree(plan(load_recipe("paper/mid_training_replay", {}))))
    drawn = [line.rstrip() for line in file.getvalue().splitlines()]
    assert len(drawn) == 11 and max(line.index("→") for line in drawn[1:]) < 16
    page = (Path(__file__).parents[3] / "docs" / "sweeps.md").read_text()
    assert "".join(f"    {line}\n" for line in drawn) in page


def test_runs_are_told_apart_by_their_names(models):
    names = [run.name for run in models.runs]
    assert len(set(names)) == len(names) == 30 and not any("{" in name for name in names)
    assert names[0].startswith("seed=0 data_seed=42 target=c_headers model=embed dim 32 peak=0.003")


def test_presets_are_named_and_only_texts_are_cut():
    small, big = (to_plain(PRESETS[name]) for name in ("150m", "300m"))
    path = "data/somewhere/far/below/the/root.jsonl"
    overrides = [
        {"model": small, "data.path": path, "optimizer.weight_decay": 0.1},
        {"model": big, "data.path": "b"},
        {"model": {**big, "num_layers": 7, "max_seq_len": 9}},
        {},
    ]
    assert run_names(overrides, "alone") == [
        "model=150m path=data/somewhere/far/belo… weight_decay=0.1",
        "model=300m path=b",
        "model=300m, num layers 7, max seq len 9",
        "alone",
    ]
