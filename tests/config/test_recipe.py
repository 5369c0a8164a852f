"""Config files: strict overrides, misspelt names answered with the nearest valid one."""

import textwrap

import pytest

from replay_jax.config.experiments import configs_of, experiments_of
from replay_jax.config.recipe import load_recipe, override, parse_overrides
from replay_jax.errors import UserError

RECIPE = '''
"""Does it load?"""
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"seed": 1, "model": {"num_layers": 2, "tied": None}})

def sweep():
    return [{"seed": s} for s in (1, 2)]
'''


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(textwrap.dedent(RECIPE))
    return path


def test_overrides_reach_the_base_and_leave_the_sweep(recipe):
    loaded = load_recipe(recipe, {"model.num_layers": 5, "model.tied": True})
    assert loaded.base == {"seed": 1, "model": {"num_layers": 5, "tied": True}}
    assert loaded.sweep == ({"seed": 1}, {"seed": 2})
    assert (loaded.name, loaded.question) == ("tiny", "Does it load?")


def test_a_misspelt_key_names_the_nearest(recipe):
    with pytest.raises(UserError, match=r"unknown key 'model.num_layer'.*'model.num_layers'"):
        load_recipe(recipe, {"model.num_layer": 5})


def test_an_axis_of_the_sweep_cannot_be_overridden(recipe):
    with pytest.raises(UserError, match="'seed' is varied by the sweep"):
        load_recipe(recipe, {"seed": 3})


def test_a_file_is_given_what_its_functions_take(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        'def get_config(data_path=""):\n    return {"seed": 1, "data": {"path": data_path + "!"}}\n'
        'def sweep(seeds=1):\n    return [{"seed": number} for number in range(seeds)]\n'
    )
    loaded = load_recipe(path, {"data.path": "text", "seeds": 3})
    assert loaded.base == {"seed": 1, "data": {"path": "text!"}}
    assert loaded.sweep == ({"seed": 0}, {"seed": 1}, {"seed": 2})
    assert loaded.overrides == {"data.path": "text", "seeds": 3}
    with pytest.raises(UserError, match="unknown key 'sedes'"):
        load_recipe(path, {"sedes": 3})


def test_missing_file_and_missing_function(tmp_path, recipe):
    with pytest.raises(UserError, match="no config file"):
        load_recipe(tmp_path / "none.py", {})
    recipe.write_text("def get_config(): return {}\n")
    with pytest.raises(UserError, match=r"defines no sweep\(\)"):
        load_recipe(recipe, {})


def test_tasks_sources_and_weights_are_named_from_outside():
    """Their names are the user's own, so no list of known ones could have them."""
    arguments = [
        "--config.data.sources.own-text=data/own.jsonl.gz",
        "--config.data.sources.own-text.validation_fraction=0.2",
        "--config.data.sources.c_headers=headers.txt",
        "--config.tasks.trivia=trivia.jsonl",
        "--config.training.loss_weights.c_headers=0.5",
    ]
    recipe = load_recipe("smoke", parse_overrides(arguments))
    sources = recipe.base["data"]["sources"]
    own = sources["own-text"]
    assert (own["kind"], own["path"]) == ("jsonl", "data/own.jsonl.gz")
    assert own["validation_fraction"] == 0.2
    assert (sources["c_headers"]["kind"], sources["c_headers"]["path"]) == ("text", "headers.txt")
    config = configs_of(experiments_of(recipe))[0]
    assert config.tasks == (("trivia", "trivia.jsonl"),)
    assert config.training.loss_weights == (("c_headers", 0.5),)
    assert dict(config.data.sources).keys() == {"python_docs", "c_headers", "own-text"}
    for key in ("task.trivia", "data.sources.none.path", "training.loss_weight.c_headers"):
        with pytest.raises(UserError, match=f"unknown key '{key}'"):
            load_recipe("smoke", {key: "x"})


def test_override_copies():
    base = {"a": {"b": 1}}
    assert override(base, "a.b", [2]) == {"a": {"b": [2]}}
    assert base == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1e-3", 1e-3), ("None", None), ("True", True), ("(1, 2)", (1, 2)), ("c4", "c4"),
     ("{[]: 1}", "{[]: 1}"), ("(" * 5000, "(" * 5000)],
)  # fmt: skip
def test_command_line_values_are_literals_or_strings(text, value):
    assert parse_overrides([f"--config.a.b={text}"]) == {"a.b": value}


def test_other_arguments_are_refused():
    with pytest.raises(UserError, match="--config.key=value"):
        parse_overrides(["--confg.a=1"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "c = ConfigDict()\n    c.x = {'dclm-1.0': 1}\n    return c",
            "line 4 names something 'dclm-1.0', but dots .*: call it 'dclm-1_0'",
        ),
        ("return None", "TypeError"),
        ("return open('nowhere')", "line 3 .*FileNotFoundError"),
        ("return unknown", "line 3 .*NameError: name 'unknown'"),
    ],
)
def test_whatever_goes_wrong_in_a_config_file_is_one_sentence(tmp_path, body, words):
    path = tmp_path / "own.py"
    text = f"from ml_collections import ConfigDict\ndef get_config():\n    {body}\n"
    path.write_text(text + "def sweep():\n    return [{}]\n")
    with pytest.raises(UserError, match=words) as refusal:
        load_recipe(path)
    assert "own.py" in str(refusal.value) and "\n" not in str(refusal.value)
    path.write_text("x = unknown\n")
    with pytest.raises(UserError, match="own.py, line 1 cannot be read: NameError"):
        load_recipe(path)
