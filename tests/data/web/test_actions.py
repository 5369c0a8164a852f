"""Actions as text: predictions are read as they come, references by a grammar."""

import pytest

from replay_jax.data.web.actions import (
    UNREAD,
    Action,
    coordinates,
    is_number,
    read_prediction,
    read_reference,
)
from replay_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "intent", "arguments"),
    [
        ('click(uid="a-1")', "click", {"uid": "a-1"}),
        ('Sure: text_input(text="a, b) = c", uid="x") and more', "textinput",
         {"text": "a, b) = c", "uid": "x"}),
        ("SCROLL(x=0, y=300", "scroll", {"x": "0", "y": "300"}),
        ('say(speaker="navigator", utterance="Hi")click(uid="b")', "say",
         {"speaker": "navigator", "utterance": "Hi"}),
        ('action(intent="click", uid="b")', "click", {"intent": "click", "uid": "b"}),
        ("tabcreate()", "tabcreate", {}),
        ("fly(to=1)", "", {"to": "1"}),
        ("click (uid=1)", "", {"uid": "1"}),
    ],
)  # fmt: skip
def test_a_prediction_is_its_first_name_with_a_bracket(text, intent, arguments):
    assert read_prediction(text) == Action(intent, arguments)


def test_words_without_a_bracket_are_no_action():
    assert read_prediction("I would click it") == UNREAD == read_prediction("")


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('say(speaker="navigator", utterance="He said "no", then left, so=what")',
         {"speaker": "navigator", "utterance": 'He said "no", then left, so=what'}),
        ('load(url="https://a.b/c?d=e,f=(g)", timestamp="00:20")',
         {"url": "https://a.b/c?d=e,f=(g)", "timestamp": "00:20"}),
        ('textInput(text="", uid="u")', {"text": "", "uid": "u"}),
        (" scroll(x=0, y=-12)\n", {"x": "0", "y": "-12"}),
        ('change(value="a\nb", uid="u")', {"value": "a\nb", "uid": "u"}),
    ],
)  # fmt: skip
def test_a_reference_keeps_quotes_commas_and_brackets_of_its_text(text, arguments):
    assert read_reference(text).arguments == arguments
    assert read_reference(read_reference(text).text()).arguments == arguments


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("click it", "not of the form"),
        ('copy(text="a")', "does nothing known: valid here: change, click"),
        ('clik(uid="a")', "did you mean 'click'"),
        ('text_input(text="a")', "has no uid"),
        ("scroll(x=1)", "has no y"),
    ],
)
def test_a_reference_that_is_none_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        read_reference(text)


def test_numbers_and_places_are_told_as_the_benchmark_tells_them():
    assert [is_number(t) for t in ("12", "-3", "1.5", "1e5", "", "1-2", "a.b", "+1", "--3")] == [
        True, True, True, False, False, False, False, False, False
    ]  # fmt: skip
    for text in ("click(x=1, y=2.5)", "click(x=1 y=2.5)", "click(y=2.5 x=1)", 'click(y="2.5",x=1)'):
        assert coordinates(read_prediction(text)) == (1.0, 2.5)
    for text in ("click(x=1)", "click(x=a, y=1)", "click()"):
        assert coordinates(read_prediction(text)) is None
