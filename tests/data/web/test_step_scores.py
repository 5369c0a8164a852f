"""Mind2Web's scores by hand."""

import pytest
from web_records import mind2web_record, write_json_lines

from replay_jax.data.web.reading import read_turns
from replay_jax.data.web.step_scores import step_columns, step_score

STEPS = [
    ("CLICK", "", ["7", "70"], ["8"]),
    ("TYPE", "red running shoes", ["7"], ["8"]),
    ("SELECT", "Size 8", [], ["8"]),
]


@pytest.fixture(scope="module")
def turns(tmp_path_factory):
    records = [mind2web_record("t", STEPS), mind2web_record("u", STEPS[:1])]
    path = tmp_path_factory.mktemp("web") / "test_task_0.json"
    return read_turns([write_json_lines(path, records)])


def test_steps_by_hand(turns):
    click, typed, lost = turns[:3]
    for prediction, element, f1 in (
        ('click(uid="7")', True, 1), ('click(uid="70")', True, 1), ('click(uid="8")', False, 1),
        # TYPE and a word against CLICK alone: nothing in common.
        ('text_input(text="x", uid="7")', True, 0), ("no idea", False, 0),
    ):  # fmt: skip
        found = step_score(click, prediction)
        assert (found.element, found.action_f1) == (element, f1), prediction
        assert found.success == (element and f1 == 1)
    # {TYPE, red, shoes} of {TYPE, red, running, shoes}: precision 1, recall 3/4.
    assert step_score(typed, 'text_input(text="red shoes", uid="7")').action_f1 == 6 / 7
    assert not step_score(typed, 'text_input(text="red shoes", uid="7")').success
    assert step_score(lost, lost.text).action_f1 == 0.0 and not lost.learnable


def test_the_reference_scores_one_where_an_element_is_right(turns):
    for turn in turns:
        assert step_score(turn, turn.text).success == bool(turn.right)


def test_a_task_succeeds_where_all_its_steps_do(turns):
    outputs = ['click(uid="7")', turns[1].text, "x", 'click(uid="70")']
    found = step_columns(turns, outputs)
    assert found["step_success"] == [1, 1, 0, 1]
    assert found["step_success_by_task"] == [pytest.approx(2 / 3), None, None, 1]
    assert found["task_success"] == [0, None, None, 1]
    assert found["element_accuracy_by_task"][0] == pytest.approx(2 / 3)
