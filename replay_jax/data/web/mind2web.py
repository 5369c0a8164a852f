"""Records of Mind2Web: a task each, with its actions; every action becomes a turn.

Fields: annotation_id, confirmed_task, action_reprs, and actions with action_uid, operation (op and
value), pos_candidates, neg_candidates (tag, attributes, backend_node_id and, where a ranker has
been at work, rank) and cleaned_html. The actions are written in the grammar of WebLINX: CLICK is
click, TYPE text_input and SELECT change; the uid of an element is its backend_node_id.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from replay_jax.data.web.actions import Action
from replay_jax.data.web.candidates import Candidate
from replay_jax.data.web.shortening import ELLIPSIS
from replay_jax.data.web.turn import MIND2WEB, Shown, WebTurn
from replay_jax.errors import UserError
from replay_jax.shape import NUMBER, misshapen

SHOWN = 10  # elements of a page, as WebLINX shows
# Characters of an element's text that are kept: containers have the whole page's.
TEXT = 2000
_INTENTS = {"CLICK": "click", "TYPE": "textinput", "SELECT": "change"}
_VALUES = {"textinput": "text", "change": "value"}
_SHAPE = {
    "annotation_id": str,
    "confirmed_task": str,
    "action_reprs": [str],
    "actions": [
        {
            "action_uid": str,
            "operation": {"op": str, "value": str},
            "pos_candidates": [object],
            "neg_candidates": [object],
            "cleaned_html": str,
        }
    ],
}
# Attributes that say what an element is for.
_TELLING = (
    "role", "type", "alt", "title", "name", "label", "value", "placeholder", "aria_label",
    "aria_description", "text_value", "input_value", "input_checked", "option_selected",
)  # fmt: skip


def mind2web_turns(record: Mapping[str, Any], where: str, split: str) -> list[WebTurn]:
    """The turns of a task in their order.

    Raises UserError for a field that is missing or of another type, and an unknown operation.
    """
    if wrong := misshapen(record, _SHAPE):
        raise UserError(wrong)
    found = []
    for number, step in enumerate(record["actions"]):
        right, wrong_ones = (_elements(step[f"{kind}_candidates"]) for kind in ("pos", "neg"))
        action = _action(step["operation"], right)
        ordered = _shown(right, wrong_ones, step["action_uid"], force=split == "train")
        page = _page(step["cleaned_html"])
        shown = Shown(
            html="",
            utterances=record["confirmed_task"],
            viewport="",
            history=" ; ".join(record["action_reprs"][:number]),
            candidates=tuple(_candidate(each, page) for each in ordered),
        )
        found.append(
            WebTurn(
                where=where,
                data_set=MIND2WEB,
                demo=record["annotation_id"],
                turn=number,
                split=split,
                shown=shown,
                action=action,
                text=action.text(),
                boxes={},
                whole_page=False,
                right=tuple(each["backend_node_id"] for each in right),
            )
        )
    return found


def _action(operation: Mapping[str, str], right: list[dict[str, Any]]) -> Action:
    if operation["op"] not in _INTENTS:
        raise UserError(f"operation {operation['op']!r} is not one of {', '.join(_INTENTS)}")
    intent = _INTENTS[operation["op"]]
    said = {_VALUES[intent]: " ".join(operation["value"].split())} if intent in _VALUES else {}
    uid = right[0]["backend_node_id"] if right else ""
    return Action(intent, {**said, "uid": uid})


def _elements(values: list[Any]) -> list[dict[str, Any]]:
    """Candidates as objects: some copies of the data set have them as JSON in a text."""
    found = []
    for value in values:
        try:
            each = json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise UserError(f"a candidate is not JSON: {value[:60]!r}") from error
        ranked = {"rank": NUMBER} if isinstance(each, dict) and "rank" in each else {}
        if wrong := misshapen(each, {"tag": str, "backend_node_id": str, **ranked}):
            raise UserError(f"a candidate: {wrong}")
        found.append(each)
    return found


def _shown(
    right: list[dict[str, Any]], others: list[dict[str, Any]], step: str, *, force: bool
) -> list[dict[str, Any]]:
    """The elements that are shown, in an order that says nothing.

    Where all have ranks, those of the best; the first right one also beyond them to learn from
    (`force`), and always without ranks, which could not be chosen by otherwise.
    """

    def drawn(each: dict[str, Any]) -> bytes:
        return hashlib.sha256(f"{step} {each['backend_node_id']}".encode()).digest()

    ranked = all("rank" in each for each in right + others)
    everything = right + others if ranked else right[:1] + others
    first = right[:1] if right and (force or not ranked) else []
    rest = [each for each in everything if each not in first]
    rest.sort(key=(lambda each: (each["rank"], drawn(each))) if ranked else drawn)
    return sorted(first + rest[: SHOWN - len(first)], key=drawn)


def _page(html: str) -> dict[str, ElementTree.Element]:
    """Elements by backend_node_id; none of a page that is no tree."""
    try:
        tree = ElementTree.fromstring(html)
    except ElementTree.ParseError:
        return {}
    key = "backend_node_id"
    return {each.attrib[key]: each for each in tree.iter() if key in each.attrib}


def _candidate(element: dict[str, Any], page: Mapping[str, ElementTree.Element]) -> Candidate:
    uid = element["backend_node_id"]
    found = page[uid] if uid in page else None
    text = " ".join(" ".join(found.itertext()).split()) if found is not None else ""
    if len(text) > TEXT:
        text = f"{text[: TEXT // 2]}{ELLIPSIS}{text[-(TEXT // 2) :]}"
    said = found.attrib if found is not None else {}
    told = " ".join(f"{name}='{said[name]}'" for name in _TELLING if name in said)
    fields = (("tag", element["tag"]), ("text", text), ("attributes", told))
    return Candidate(uid, tuple((name, value) for name, value in fields if value))
