"""Values of JSON that lack a part are told in words, and literals that are none stay text."""

import pytest

from replay_jax.errors import UserError
from replay_jax.shape import NUMBER, Each, misshapen
from replay_jax.strict import literal

SHAPE = {"id": str, "loss": NUMBER, "steps": [{"step": int}], "seconds": Each(NUMBER)}
GOOD = {"id": "a", "loss": 1, "steps": [{"step": 1}], "seconds": {"save": 0.5}, "more": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"id": 1}, "id is 1, not str"),
        ({"loss": -(1 << 63)}, "loss has 64 bits, more than 63"),
        ({"steps": [{"step": 10**400}]}, "steps[0].step has 1329 bits, more than 63"),
        ({"loss": True}, "loss is True, not int or float"),
        ({"steps": {}}, "steps is {}, not a list"),
        ({"steps": [{"step": 1}, {}]}, "steps[1].step is missing"),
        ({"seconds": {"save": "1"}}, "seconds.save is '1', not int or float"),
        ({"seconds": []}, "seconds is [], not an object"),
    ],
)
def test_the_first_thing_wrong_is_named(change, words):
    assert misshapen({**GOOD, **change}, SHAPE) == words


def test_an_object_of_anything_takes_anything():
    assert misshapen({"a": False, "b": None, "c": [1]}, Each(object)) == ""
    assert misshapen(None, SHAPE) == "it is None, not an object"


@pytest.mark.parametrize("text", ["{[]: 1}", "(" * 5000, "[" * 100_000, "1" * 5000, "a b", "\0"])
def test_what_python_cannot_read_is_text(text):
    assert literal(text) == text


def test_a_sentence_has_one_line_whoever_wrote_it():
    assert str(UserError("a:\n  b\r\nc")) == "a: b c"
    assert str(UserError("a: b\n")) == "a: b"
    assert str(UserError("two  spaces")) == "two  spaces"
