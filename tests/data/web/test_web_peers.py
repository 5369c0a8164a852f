"""Turn scores, reading and shortening against WebLINX's own code, where it is installed.

The package `weblinx` (0.3.2) with pandas; its turns stand for recorded pages.
"""

import logging
import random

import numpy as np
import pytest
from web_records import BOXES, predictions_for, weblinx_record, write_json_lines

from replay_jax.data.web.actions import coordinates, is_number, read_prediction
from replay_jax.data.web.reading import read_turns
from replay_jax.data.web.shortening import reduced
from replay_jax.data.web.turn_scores import left_out, turn_columns

pytest.importorskip("weblinx")
pytest.importorskip("sacrebleu")
pytest.importorskip("pandas")

PIECES = [
    "click", "say", "text_input", "textInput", "(", ")", '"', ",", "=", " ", "uid", "utterance",
    "url", "text", "x", "y", "12", "-3", "1.5", "abc-1", "\n", "action", "intent=", "[/INST] ",
]  # fmt: skip
ACTIONS = [
    'say(speaker="navigator", utterance="Hello there, what now?")',
    'load(url="https://www.example.org/news/today/")',
    'click(uid="a1")', 'click(uid="b2")', 'submit(uid="b2")', 'click(uid="b2")',
    'click(uid="gone")',
    'text_input(text="best shoes", uid="c3")', 'text_input(text="2023", uid="a1")',
    'change(value="size 12", uid="b2")', "scroll(x=0, y=300)",
]  # fmt: skip


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_outputs_of_any_kind_are_read_alike():
    from weblinx.processing.outputs import parse_predicted_output_string, sanitize_args

    made = random.Random(0)
    for _ in range(3000):
        text = "".join(made.choices(PIECES, k=made.randint(1, 16)))
        intent, arguments = parse_predicted_output_string(text, warn_for_unknown=False)
        own = read_prediction(text)
        assert (own.intent or "<unk>") == intent, text
        assert own.arguments.keys() == arguments.keys(), text
        for name, value in arguments.items():
            assert isinstance(value, str) != is_number(own.arguments[name]), text
            assert not isinstance(value, str) or value == own.arguments[name], text
        clean = sanitize_args(arguments)
        place = tuple(clean[name] for name in "xy") if "x" in clean and "y" in clean else None
        assert coordinates(own) == (None if place and None in place else place), text


def test_lengths_are_reduced_alike():
    from weblinx.processing.truncation import reduce_list_of_lengths

    made = random.Random(0)
    for _ in range(300):
        lengths = sorted(made.choices(range(9), k=made.randint(1, 8)))
        total = made.randint(1, 40)
        assert reduced(lengths, total) == reduce_list_of_lengths(lengths, total), (lengths, total)


def page_turn(turn):
    """A turn as the benchmark's code has it, of one of ours."""
    given, intent = dict(turn.action.arguments), turn.action.intent
    arguments = {"value": given.get("value"), "text": given.get("text"), "scrollX": 0, "scrollY": 0}
    element = {"attributes": {"data-webtasks-id": given["uid"]}} if "uid" in given else None
    if "uid" in given and given["uid"] not in turn.boxes:
        element = {"attributes": {}}
    boxes = {
        uid: {**box._asdict(), "width": box.right - box.left, "height": box.bottom - box.top}
        for uid, box in turn.boxes.items()
    }

    class Page(dict):
        type = "chat" if intent == "say" else "browser"
        bboxes = boxes
        args = arguments
        props = {"url": given.get("url")}

        def get_xpaths_dict(self, **_):
            return dict.fromkeys(boxes, "/html")

    page = Page(speaker="navigator", utterance=given.get("utterance"))
    page.intent, page.element = intent, element
    return page


class Replay(dict):
    """Pages by the number of their turn."""

    def __len__(self):
        return max(self) + 1


def test_scores_are_those_of_the_benchmark(tmp_path):
    """Turn by turn and in every mean, unrounded, for outputs good, bad and broken."""
    import pandas as pd
    from weblinx.eval import compute_overall_score, process_model_results, run_evaluation

    made = random.Random(1)
    chosen = [*ACTIONS, *made.choices(ACTIONS, k=60)]
    records = [
        weblinx_record("ab"[n > 30], n, action, bboxes=BOXES, split="valid")
        for n, action in enumerate(chosen)
    ]
    turns = read_turns([write_json_lines(tmp_path / "records.jsonl", records)])
    outputs = predictions_for(turns, made)
    pages = {turn.key: page_turn(turn) for turn in turns}
    replays = {d: Replay({t.turn: pages[t.key] for t in turns if t.demo == d}) for d in "ab"}
    results = [
        {"demo_name": t.demo, "turn_index": t.turn, "output_predicted": out}
        for t, out in zip(turns, outputs, strict=True)
    ]
    valid = process_model_results(replays, results, verbose=False)
    out = left_out(turns)
    kept = [number for number, turn in enumerate(turns) if turn.key not in out]
    assert [(v["demo_name"], v["turn_index"]) for v in valid] == [turns[n].key for n in kept]
    assert 0 < len(out) < len(turns)
    names = ["intent-match", "chrf", "iou", "urlf"]
    theirs = pd.DataFrame(run_evaluation(valid, names))
    theirs["overall"] = theirs.apply(compute_overall_score, axis=1)
    unconditional = theirs.copy()
    unconditional.loc[theirs["intent-match"] == 0, [*names, "overall"]] = 0
    ours = turn_columns([turns[n] for n in kept], [outputs[n] for n in kept])
    for suffix, table in (("", unconditional), ("_if_intent", theirs)):
        for name, columns in (
            ("overall", ["overall"]), ("element", ["iou"]), ("text", ["chrf", "urlf"]),
        ):  # fmt: skip
            wanted = table[columns].astype(float).max(axis=1).to_numpy()
            np.testing.assert_allclose(np.array(ours[name + suffix], float), wanted, rtol=1e-12)
    np.testing.assert_array_equal(ours["intent"], theirs["intent-match"])
    assert 0.1 < np.mean(ours["intent"]) < 0.95
