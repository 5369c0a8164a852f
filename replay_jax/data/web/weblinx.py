"""Records of WebLINX's chat split: one turn each, its parts as texts.

Fields: demo, turn, action, utterances, action_history, candidates, clean_html, viewport; also
`bboxes`, an object from the uid of every element of the page to its box, as the demonstrations have
it, and `split`.
"""

import re
from collections.abc import Mapping
from typing import Any

from replay_jax.data.web.actions import read_reference
from replay_jax.data.web.boxes import Box, box_of
from replay_jax.data.web.candidates import Candidate, candidates_of
from replay_jax.data.web.turn import WEBLINX, Shown, WebTurn
from replay_jax.errors import UserError

_TEXTS = ("utterances", "action_history", "clean_html", "viewport")
# What marks turns in a history that was written for Llama 2.
_MARKS = re.compile(r"\s*(?:</s>|<s>|\[/?INST\])+(?:\s*(?:</s>|<s>|\[/?INST\]))*\s*")


def weblinx_turn(record: Mapping[str, Any], where: str, split: str) -> WebTurn:
    """The turn of a record.

    Raises UserError for a field that is missing or of another type, and for an action that cannot
    be read.
    """
    for name in ("demo", "turn", "action", "candidates", *_TEXTS):
        if name not in record:
            raise UserError(f"no field {name!r}; the fields are {sorted(record)}")
    for name, kind in (("demo", str), ("turn", int), ("action", str)):
        if type(record[name]) is not kind:
            raise UserError(f"{name} is {record[name]!r}, not {kind.__name__}")
    candidates = candidates_of(record["candidates"])
    html, utterances, viewport = (
        _text(record, n) for n in ("clean_html", "utterances", "viewport")
    )
    history = _MARKS.sub(" ; ", _text(record, "action_history")).strip(" ;")
    whole_page = "bboxes" in record and record["bboxes"] is not None
    return WebTurn(
        where=where,
        data_set=WEBLINX,
        demo=record["demo"],
        turn=record["turn"],
        split=split,
        shown=Shown(html, utterances.strip(" ;"), viewport, history, candidates),
        action=read_reference(record["action"]),
        text=record["action"].strip(),
        boxes=_boxes(record["bboxes"]) if whole_page else _boxes_shown(candidates),
        whole_page=whole_page,
    )


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record[name]
    if value is None or isinstance(value, str):
        return value or ""
    raise UserError(f"{name} is {type(value).__name__}, not text")


def _boxes(value: Any) -> dict[str, Box]:
    if not isinstance(value, Mapping):
        raise UserError(f"bboxes are {type(value).__name__}, not an object of boxes by uid")
    return {uid: box_of(box, uid) for uid, box in value.items()}


def _boxes_shown(candidates: tuple[Candidate, ...]) -> dict[str, Box]:
    return {each.uid: box for each in candidates if (box := each.box) is not None}
