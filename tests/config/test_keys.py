"""Every key of a config is said: type, value, meaning, and the page of all of them."""

import json

import pytest
from places import ROOT

from replay_jax.commands.main import main
from replay_jax.config.keys import chosen, keys_of, reference
from replay_jax.errors import UserError


def test_every_key_has_a_meaning_and_a_type():
    keys = keys_of()
    assert len(keys) == len({key.name for key in keys}) > 120
    assert all(key.meaning and key.kind for key in keys)
    by_name = {key.name: key for key in keys}
    assert by_name["schedule.total_steps"].kind == "whole number or None"
    assert by_name["schedule.replay_fraction"].example == 0.0
    assert by_name["data.sources.NAME.text_field"].meaning.startswith("field or column")
    assert by_name["training.loss_weights"].kind == "dictionary"
    assert by_name["schedule.stages"].kind == "list"


def test_the_page_is_what_the_dataclasses_say():
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert page == reference(), "run python tools/reference.py"


def test_a_key_or_all_below_it_with_the_values_of_a_config(capsys):
    names = [key.name for key in chosen(keys_of(), "model.rope")]
    assert names[0] == "model.rope.theta" and all(n.startswith("model.rope.") for n in names)
    with pytest.raises(UserError, match="no key 'schedul': .*schedule"):
        chosen(keys_of(), "schedul")
    assert main(["config", "quickstart", "training.seq_len", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["name"], found["example"]) == ("training.seq_len", 128)
    assert main(["config", "mesh"]) == 0
    assert "tensor" in capsys.readouterr().out
    assert main(["config", "smoke", "schedul"]) == 2
