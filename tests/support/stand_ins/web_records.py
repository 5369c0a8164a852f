"""Records of web turns, made up: in the fields of WebLINX's chat split and of Mind2Web."""

import json
import random

BOXES = {
    "a1": {"x": 0, "y": 0, "width": 10, "height": 10},
    "b2": {"x": 5, "y": 0, "width": 10, "height": 10},
    "c3": {"x": 100, "y": 100, "width": 40, "height": 20},
}
DOC = "(uid = {uid}) [[tag]] div [[xpath]] /html/body/div [[text]] {text} [[bbox]] x={x} y={y} " \
    "width={width} height={height} [[attributes]] class='{uid}' [[children]] "  # fmt: skip


def weblinx_record(demo, turn, action, **more):
    """One turn; the candidates are the elements of BOXES."""
    shown = [DOC.format(uid=uid, text=f"element {uid}", **box) for uid, box in BOXES.items()]
    return {
        "demo": demo,
        "turn": turn,
        "action": action,
        "action_history": 'say(speaker="instructor", utterance="Hello")</s><s>[INST] click(x=1)',
        "utterances": "[00:07] Hello [00:13] Open the news ;",
        "candidates": "\n".join(shown),
        "clean_html": '(html(body(div data-webtasks-id="a1" Life)(a News)))',
        "viewport": "746h x 1536w",
        **more,
    }


def element(tag, node, **more):
    """A candidate of Mind2Web."""
    return {"tag": tag, "attributes": "{}", "backend_node_id": node, **more}


def mind2web_record(task, steps, **more):
    """A task of steps (op, value, right nodes, other nodes)."""
    actions = [
        {
            "action_uid": f"{task}-{number}",
            "operation": {"op": op, "value": value, "original_op": op},
            "pos_candidates": [element("button", node) for node in right],
            "neg_candidates": [element("a", node) for node in others],
            "cleaned_html": '<html><body><button backend_node_id="7" type="submit">Buy <b>now</b>'
            '</button><a backend_node_id="8" title="cart">Cart</a></body></html>',
        }
        for number, (op, value, right, others) in enumerate(steps)
    ]
    return {
        "annotation_id": task,
        "confirmed_task": "Buy the cheapest shoes",
        "action_reprs": [f"[button]  Buy -> {op}" for op, *_ in steps],
        "actions": actions,
        "website": "shop",
        **more,
    }


def write_json_lines(path, records):
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return path


def predictions_for(turns, made: random.Random):
    """Outputs of all kinds: right, of another turn, cut off, in words, by place, garbled."""
    found = []
    for turn in turns:
        other = made.choice(turns).text
        kinds = (
            turn.text, turn.text, f"Sure! {turn.text} I am done.", other, turn.text[:-6],
            "I cannot do that.", "click(x=7 y=5)", "click(x=7, y=5)",
            turn.text.replace("e", "a"), turn.text.replace("a1", "b2"), other.upper(),
        )  # fmt: skip
        found.append(made.choice(kinds))
    return found
