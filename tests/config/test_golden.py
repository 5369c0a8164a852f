"""What the paper's configs resolve to is what it was: a changed default is seen."""

import importlib.util
import json

import pytest
from places import ROOT

from replay_jax.config.shipped import shipped_configs

NAMES = [name for name in shipped_configs() if name.startswith("paper/")]


def tool():
    spec = importlib.util.spec_from_file_location("golden", ROOT / "tools/golden_configs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GOLDEN = tool().GOLDEN


@pytest.mark.parametrize("name", NAMES)
def test_a_paper_config_resolves_to_what_it_did(name):
    """Changed on purpose? Then `python tools/golden_configs.py`, and look at the diff."""
    stored = GOLDEN / f"{name.removeprefix('paper/')}.json"
    assert json.loads(tool().golden_text(name)) == json.loads(stored.read_text(encoding="utf-8"))


def test_no_golden_file_is_left_of_a_config_that_is_gone():
    assert {f"paper/{path.stem}" for path in GOLDEN.glob("*.json")} == set(NAMES)
