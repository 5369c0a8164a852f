"""The turn score, by hand; docs/web_navigation.md says what each is."""

import itertools

import pytest
from web_records import BOXES, weblinx_record, write_json_lines

from replay_jax.data.web.boxes import Box, box_of, element_at, iou
from replay_jax.data.web.reading import read_turns
from replay_jax.data.web.turn_scores import (
    TurnScore,
    chrf_of,
    judged_by_uid,
    left_out,
    turn_columns,
    turn_score,
    url_f1,
)
from replay_jax.errors import UserError

pytest.importorskip("sacrebleu")

REFERENCES = (
    'say(speaker="navigator", utterance="I found it")',
    'load(url="https://www.a.org/x/y")',
    'click(uid="a1")',
    'submit(uid="b2")',
    'text_input(text="red shoes", uid="a1")',
    'change(value="red", uid="c3")',
)


@pytest.fixture(scope="module")
def turns(tmp_path_factory):
    """A turn for each of the references, then a scroll; the boxes are the candidates'."""
    actions = [*REFERENCES, "scroll(x=0, y=10)"]
    records = [
        weblinx_record("d", 2 * n, action, split="valid") for n, action in enumerate(actions)
    ]
    folder = tmp_path_factory.mktemp("web")
    return read_turns([write_json_lines(folder / "records.jsonl", records)])


def by_intent(turns, intent):
    return next(turn for turn in turns if turn.action.intent == intent)


def test_the_reference_itself_scores_one(turns):
    for turn in turns[:-1]:
        assert turn_score(turn, turn.text).overall == pytest.approx(1.0)


def test_the_intent_is_a_gate(turns):
    """Whatever else is right: nothing is gained by half of an action."""
    for turn, other in itertools.permutations(turns, 2):
        wrong = other.text.partition("(")[0] + "(" + turn.text.partition("(")[2]
        assert turn_score(turn, wrong) == TurnScore(matches=False)
        assert turn_columns([turn], [wrong])["overall"] == [0.0]
        assert turn_columns([turn], [wrong])["overall_if_intent"] == [None]


def test_elements_score_what_their_boxes_have_in_common(turns):
    """a1 and b2 are 10 x 10 and overlap by 5 x 10: 50 of 150 pixels."""
    click = by_intent(turns, "click")
    for prediction, expected in (
        ('click(uid="b2")', 1 / 3), ('click(uid="c3")', 0), ('click(uid="none")', 0),
        ("click()", 0),
        ("click(x=7, y=5)", 1), ("click(x=12, y=5)", 1 / 3), ("click(x=500, y=5)", 0),
        ('click(uid="7")', 0),
    ):  # fmt: skip
        assert turn_score(click, prediction).iou == pytest.approx(expected), prediction


def test_text_into_an_element_scores_their_product(turns):
    typed = turn_score(by_intent(turns, "textinput"), 'text_input(text="red", uid="b2")')
    # "red" in "redshoes", white space left out: precision 1 for the 1-, 2- and 3-grams that it has,
    # recalls 3/8, 2/7, 1/6; chrF2 weighs recall four times.
    recall = (3 / 8 + 2 / 7 + 1 / 6) / 3
    chrf = 5 * recall / (4 + recall)
    assert typed.chrf == pytest.approx(chrf) and typed.iou == pytest.approx(1 / 3)
    assert typed.overall == pytest.approx(chrf / 3)
    chosen = turn_score(by_intent(turns, "change"), 'change(value="red", uid="a1")')
    assert (chosen.chrf, chosen.iou, chosen.overall) == (pytest.approx(1.0), 0.0, 0.0)


def test_chrf_by_hand():
    """Of "ab" and "abc": 1-grams 2 of 2 and 2 of 3, 2-grams 1 of 1 and 1 of 2, no 3-grams."""
    recall = (2 / 3 + 1 / 2) / 2
    assert chrf_of("ab", "abc") == pytest.approx(5 * recall / (4 + recall))
    assert chrf_of("a b", "ab") == chrf_of("ab", "ab") == pytest.approx(1.0)
    assert chrf_of("", "abc") == chrf_of("xyz", "abc") == 0.0


@pytest.mark.parametrize(
    ("said", "wanted", "expected"),
    [
        ("https://www.a.org/x/y", "http://a.org/x/y/", 1.0),
        ("https://a.org", "https://a.org/x/y", 2 * 1 / (1 + 3)),
        ("https://a.org/y/z", "https://a.org/x/y", 2 * 2 / (3 + 3)),
        ("https://b.org", "https://a.org", 0.0),
        ("https://a.org?q=1", "https://a.org?q=2", 1.0),
        ("http://[", "https://a.org", 0.0),
        ("", "", 0.0),
    ],
)
def test_addresses_by_hand(said, wanted, expected):
    assert url_f1(said, wanted) == pytest.approx(expected)


def test_an_address_counts_by_f1_and_in_the_text_group_by_the_better_score(turns):
    found = turn_score(by_intent(turns, "load"), 'load(url="https://www.a.org")')
    assert found.overall == found.urlf == pytest.approx(1 / 2)
    assert found.text == found.chrf > found.urlf


def test_what_the_benchmark_scores_zero_whatever_is_said(turns, tmp_path):
    """A number is no text to its reader, and a scroll has no element: kept, and counted."""
    record = weblinx_record("d", 1, 'text_input(text="2023", uid="a1")', split="valid")
    (number,) = read_turns([write_json_lines(tmp_path / "n.jsonl", [record])])
    assert turn_score(number, number.text).overall == 0.0
    assert turn_score(turns[-1], turns[-1].text).overall == 0.0


def test_means_count_what_the_benchmark_counts(turns):
    """A wrong intent is 0 in every unconditional mean, and in no conditional one."""
    outputs = [turn.text for turn in turns[:3]] + ["nothing"]
    found = turn_columns(turns[:4], outputs)
    assert found["intent"] == [1, 1, 1, 0]
    assert found["overall"] == [pytest.approx(1)] * 3 + [0]
    assert found["element"] == [None, None, pytest.approx(1), 0]
    assert found["element_if_intent"] == [None, None, pytest.approx(1), None]
    assert found["text"] == [pytest.approx(1), pytest.approx(1), None, 0]


def test_iou_is_symmetric_and_one_of_itself():
    boxes = [Box(0, 0, 4, 4), Box(2, 2, 6, 6), Box(-1, 0, 9, 1), Box(4, 4, 5, 5), Box(3, 3, 3, 8)]
    for one, other in itertools.product(boxes, repeat=2):
        assert iou(one, other) == iou(other, one)
        assert 0 <= iou(one, other) <= 1
        assert (iou(one, other) == 1) == (one == other)
    assert iou(boxes[0], boxes[1]) == pytest.approx(4 / 28)
    assert iou(boxes[0], boxes[3]) == 0 and iou(boxes[4], Box(3, 3, 3, 9)) == 0


def test_the_smallest_element_at_a_point_is_meant():
    boxes = {"page": Box(0, 0, 99, 99), "word": Box(5.6, 5, 20, 9), "dot": Box(7, 7, 7, 7)}
    assert element_at(7, 7, boxes) == "word" and element_at(5, 5, boxes) == "word"
    assert element_at(50, 50, boxes) == "page" and element_at(100, 1, boxes) is None


def test_boxes_come_as_edges_or_as_sizes():
    assert box_of({"x": 1, "y": 2, "width": 3, "height": 4.5}, "u") == Box(1, 2, 4, 6.5)
    assert box_of({"left": 1, "top": 2, "right": 4, "bottom": 6, "x": 0}, "u") == Box(1, 2, 4, 6)
    for wrong in ({"x": 1}, [1, 2, 3, 4], {"x": "1", "y": 2, "width": 3, "height": 4}):
        with pytest.raises(UserError, match="the box of 'u' has neither"):
            box_of(wrong, "u")


def test_turns_without_a_right_element_and_clicks_before_a_submit_are_left_out(
    tmp_path,
):
    actions = ['click(uid="gone")', 'click(uid="a1")', 'click(uid="b2")', 'submit(uid="b2")']
    records = [
        weblinx_record("d", n, action, bboxes=BOXES, split="valid")
        for n, action in enumerate(actions)
    ]
    found = read_turns([write_json_lines(tmp_path / "r.jsonl", records)])
    assert left_out(found) == {("d", 0), ("d", 2)}
    record = weblinx_record("d", 0, "click(uid=None)", split="valid")
    assert left_out(read_turns([write_json_lines(tmp_path / "n.jsonl", [record])])) == {("d", 0)}


def test_without_the_page_s_boxes_only_the_right_element_itself_is_known_to_be_right(tmp_path):
    record = weblinx_record("d", 0, 'click(uid="gone")', split="valid")
    (turn,) = read_turns([write_json_lines(tmp_path / "r.jsonl", [record])])
    assert judged_by_uid(turn) and not left_out([turn])
    assert turn_score(turn, 'click(uid="gone")').overall == 1.0
    assert turn_score(turn, 'click(uid="a1")').overall == 0.0
