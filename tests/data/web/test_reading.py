"""Records of both data sets as turns and as prompts, and one sentence for each that is none."""

import gzip
import json

import pytest
from web_records import BOXES, element, mind2web_record, weblinx_record, write_json_lines

from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.data.web.budgets import Budgets
from replay_jax.data.web.candidates import candidates_of
from replay_jax.data.web.mind2web import SHOWN, TEXT
from replay_jax.data.web.predictions import read_predictions
from replay_jax.data.web.prompting import conversation_of, prompt_of
from replay_jax.data.web.reading import read_turns
from replay_jax.errors import UserError

BYTES = byte_tokenizer()
CLICK = 'click(uid="a1")'
WIDE = Budgets(html=4000, utterances=4000, history=4000, candidates=4000)


def read(path, *records):
    return read_turns([write_json_lines(path, list(records))])


def test_a_record_of_the_chat_split_is_a_turn(tmp_path):
    (turn,) = read(tmp_path / "test_web.json", weblinx_record("d", 4, CLICK))
    assert (turn.key, turn.split, turn.text) == (("d", 4), "test_web", CLICK)
    assert turn.shown.history == 'say(speaker="instructor", utterance="Hello") ; click(x=1)'
    assert turn.shown.utterances == "[00:07] Hello [00:13] Open the news"
    assert [each.uid for each in turn.shown.candidates] == list(BOXES)
    assert turn.boxes["b2"] == (5, 0, 15, 10) and not turn.whole_page


def test_candidates_come_as_one_text_or_as_a_list():
    doc = "[[tag]] a\n[[text]] Life \n[[bbox]] x=1.5 y=-2 width=3 height=4.0\n[[children]] "
    (listed,) = candidates_of([{"uid": "u-1", "doc": doc, "score": 0.1}])
    (spelt,) = candidates_of(f"(uid = u-1) {doc}".replace("\n", " "))
    assert listed == spelt and listed.box == (1.5, -2, 4.5, 2)
    assert candidates_of(None) == candidates_of("") == ()


def test_the_prompt_has_every_part_and_the_action_is_the_completion(tmp_path):
    (turn,) = read(tmp_path / "valid.json", weblinx_record("d", 4, CLICK))
    found = conversation_of(turn, BYTES, WIDE)
    assert found["completion"] == CLICK and found["demo"] == "d" and found["turn"] == 4
    for part in (turn.shown.html, turn.shown.history, turn.shown.utterances, "746h x 1536w",
                 "(uid = c3) [[tag]] div", "[[bbox]] x=100 y=100 width=40 height=20",
                 'text_input(text="…", uid="…")'):  # fmt: skip
        assert part in found["prompt"]


def test_parts_keep_to_their_budgets_and_leave_the_rest_to_the_candidates(tmp_path):
    long = {"clean_html": "(div " + "x" * 500 + ")(a y)", "utterances": "[00:01] " + "hello " * 90}
    (turn,) = read(tmp_path / "valid.json", weblinx_record("d", 4, CLICK, **long))
    budgets = Budgets(html=60, utterances=50, history=200, candidates=300)
    found = prompt_of(turn, BYTES, budgets)
    page, elements, said = (
        found.partition(f"{name}: ")[2].partition(f"\n{after}: ")[0]
        for name, after in (("Page", "Viewport"), ("Elements", "The user says"),
                            ("The user says", "Done so far"))
    )  # fmt: skip
    assert len(page) <= 60 and page.endswith(")(a y)")
    assert len(said) <= 50 and said.startswith("[00:01] ")
    assert 300 < len(elements) - 1 <= 60 + 50 + 200 + 300 - len(page) - len(said)
    for uid, box in BOXES.items():
        assert f"(uid = {uid})" in elements and f"width={box['width']} " in elements
    assert found == prompt_of(turn, BYTES, budgets)


def test_a_task_of_mind2web_is_a_turn_for_every_action(tmp_path):
    steps = [("CLICK", "", ["7"], ["8"]), ("TYPE", "red  shoes\n", ["7"], ["8"])]
    first, second = read(tmp_path / "train_3.json", mind2web_record("t", steps))
    assert (first.split, first.text) == ("train", 'click(uid="7")')
    assert second.text == 'text_input(text="red shoes", uid="7")'
    long = mind2web_record("t", steps)
    page = long["actions"][0]["cleaned_html"].replace("Cart", "wide " * 9999)
    long["actions"][0]["cleaned_html"] = page
    (cart,) = (e for e in read(tmp_path / "train.json", long)[0].shown.candidates if e.uid == "8")
    assert len(dict(cart.fields)["text"]) == TEXT + len("...")
    assert second.shown.history == "[button]  Buy -> CLICK"
    prompt = prompt_of(second, BYTES, WIDE)
    assert "Buy the cheapest shoes" in prompt
    assert "(uid = 7) [[tag]] button [[text]] Buy now [[attributes]] type='submit'" in prompt


def test_the_best_ranked_elements_are_shown_and_the_right_one_forced_to_learn_from(tmp_path):
    record = mind2web_record("t", [("CLICK", "", [], [])])
    step = record["actions"][0]
    step["pos_candidates"] = [json.dumps(element("a", "right", rank=40))]
    step["neg_candidates"] = [element("a", f"n{n}", rank=n) for n in range(30)]
    for split, forced in (("train", True), ("test_task", False)):
        (turn,) = read(tmp_path / f"{split}.json", record)
        shown = {each.uid for each in turn.shown.candidates}
        best = {f"n{n}" for n in range(SHOWN - forced)}
        assert shown == best | ({"right"} if forced else set())
    del step["neg_candidates"][3]["rank"]
    (turn,) = read(tmp_path / "test_website.json", record)
    assert "right" in {each.uid for each in turn.shown.candidates}


def test_files_may_be_lists_and_compressed(tmp_path):
    records = [weblinx_record("d", n, CLICK) for n in range(3)]
    path = tmp_path / "test_iid.json.gz"
    path.write_bytes(gzip.compress(json.dumps(records).encode()))
    assert [turn.turn for turn in read_turns([path])] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": None}, "line 2: action is None, not str"),
        ({"action": "fly()"}, r"line 2: the action 'fly\(\)' does nothing known"),
        ({"action": "click(uid=)" + "x"}, "line 2: the action .* is not of the form"),
        ({"turn": "3"}, "line 2: turn is '3', not int"),
        ({"candidates": 3}, "line 2: candidates are int, neither a text nor a list"),
        ({"candidates": [{"uid": "a"}]}, "line 2: a candidate needs uid and doc"),
        ({"bboxes": {"a": {}}}, "line 2: the box of 'a' has neither"),
        ({"clean_html": 3}, "line 2: clean_html is int, not text"),
        ({"split": "test_wbe"}, "line 2: split 'test_wbe' is none: did you mean 'test_web'"),
        (
            {"bboxes": {"a": BOXES["a1"] | {"x": float("nan")}}},
            "line 2: the box of 'a' has neither",
        ),
        ({"utterances": "\ud800"}, "line 2: half a surrogate pair, which is not text"),
        ({"turn": 0}, "line 2: turn 0 of 'd' is also in .*valid.json, line 1"),
    ],
)
def test_a_record_that_is_none_is_named_by_its_line(change, words, tmp_path):
    records = [weblinx_record("d", 0, CLICK), weblinx_record("d", 1, CLICK) | change]
    with pytest.raises(UserError, match=words):
        read(tmp_path / "valid.json", *records)


def test_what_a_file_lacks_is_said(tmp_path):
    record = weblinx_record("d", 1, CLICK)
    with pytest.raises(UserError, match="mine.jsonl, line 1: no field 'split', and the file"):
        read(tmp_path / "mine.jsonl", record)
    del record["action"]
    with pytest.raises(UserError, match="no field 'action'; the fields are"):
        read(tmp_path / "valid.json", record)
    task = mind2web_record("t", [("CLICK", "", ["7"], ["8"])])
    task["actions"][0]["operation"]["op"] = "HOVER"
    with pytest.raises(UserError, match="operation 'HOVER' is not one of CLICK, TYPE, SELECT"):
        read(tmp_path / "train.json", task)
    task["actions"][0]["neg_candidates"][0]["rank"] = "1"
    with pytest.raises(UserError, match="a candidate: rank is '1', not int or float"):
        read(tmp_path / "train.json", task)
    del task["actions"][0]["operation"]
    with pytest.raises(UserError, match=r"actions\[0\].operation is missing"):
        read(tmp_path / "train.json", task)
    (tmp_path / "valid.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="not JSON"):
        read_turns([tmp_path / "valid.json"])
    (tmp_path / "valid.json").write_text("\n")
    with pytest.raises(UserError, match="has no records"):
        read_turns([tmp_path / "valid.json"])
    with pytest.raises(UserError, match="no file of records"):
        read_turns([tmp_path / "none.json"])
    with pytest.raises(UserError, match="a budget of -1 tokens for html"):
        Budgets(html=-1)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([("d", 0), ("d", 0)], "line 2: turn 0 of 'd' has a prediction already"),
        ([("d", 0)], "has 1 predictions for 2 turns: turn 1 of 'd' has none"),
        ([("d", 0), ("d", 1), ("e", 1)], "line 3: the records have no turn 1 of 'e'"),
        ([("d", 0, 3), ("d", 1, 4)], "has 1 predictions of seed 3 for 2 turns"),
        ([("d", "0")], "line 1: turn is '0', not int"),
        ([("d", 0, "3")], "line 1: seed is '3', not a whole number"),
    ],
)
def test_predictions_must_be_those_of_the_records(lines, words, tmp_path):
    records = [weblinx_record("d", n, CLICK) for n in range(2)]
    turns = read(tmp_path / "valid.json", *records)
    names = ("demo", "turn", "seed")
    values = [dict(zip(names, line, strict=False)) | {"prediction": "x"} for line in lines]
    with pytest.raises(UserError, match=words):
        read_predictions(write_json_lines(tmp_path / "p.jsonl", values), turns)
