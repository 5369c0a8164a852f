"""Damaged facts of any kind are a sentence or a difference, never a traceback."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replay_jax.config.recipe import parse_overrides
from replay_jax.errors import UserError
from replay_jax.sweep.store.environment import differences, environment_digest
from replay_jax.sweep.store.facts import changed_facts, read_fact, write_fact
from replay_jax.sweep.store.sealing import sealed

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FACTS = st.dictionaries(st.text(), JSON, max_size=5)
OFTEN = settings(max_examples=60, deadline=None)


@OFTEN
@given(st.binary(max_size=200))
def test_any_bytes_are_a_fact_or_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        read_fact(path)
    except UserError as error:
        assert "\n" not in str(error)


def test_nesting_without_end_is_one_sentence(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="is damaged"):
        read_fact(tmp_path / "deep.json")


@OFTEN
@given(FACTS, st.data())
def test_any_change_of_a_sealed_fact_is_found(tmp_path_factory, fact, data):
    root = tmp_path_factory.getbasetemp() / "sealed"
    path = root / "segments" / "a.json"
    fact.pop("checksum", None)
    write_fact(path, sealed(fact))
    assert changed_facts(root) == []
    other = data.draw(JSON)
    name = data.draw(st.sampled_from([*fact, "new"]))
    # 0, 0.0 and False are equal, and are other facts.
    if json.dumps(fact.get(name)) != json.dumps(other) or name not in fact:
        path.write_text(json.dumps({**json.loads(path.read_text()), name: other}))
        assert changed_facts(root) == ["segments/a.json"]


@OFTEN
@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_overrides_are_taken_or_refused_in_one_sentence(arguments):
    try:
        parse_overrides([f"--config.{text}" for text in arguments])
    except UserError as error:
        assert str(error)


@OFTEN
@given(st.dictionaries(st.text(), st.dictionaries(st.text(), st.text(), max_size=3), max_size=3))
def test_an_environment_differs_from_itself_in_nothing(environment):
    assert differences(environment, json.loads(json.dumps(environment))) == []
    assert environment_digest(environment) == environment_digest(
        json.loads(json.dumps(environment))
    )
