"""The turn score of WebLINX, as its evaluation code computes it (weblinx 0.3.2, `weblinx.eval`).

The intent is a gate: where it is wrong a turn scores 0. Where it is right, text is scored by chrF,
the address that is loaded by an F1 over its parts, and an element by the intersection over union
of bounding boxes; a turn with both is scored by their product.
"""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from replay_jax.data.web.actions import Action, coordinates, is_number, read_prediction
from replay_jax.data.web.boxes import Box, element_at, iou
from replay_jax.data.web.turn import WebTurn
from replay_jax.errors import UserError

# What each intent is scored by; `scroll` has no element that is recorded, so its IoU is 0.
_TEXTS = {"say": "utterance", "load": "url", "textinput": "text", "change": "value"}
_ELEMENTS = ("click", "textinput", "submit", "change", "scroll")
_UIDS = ("uid", "data-webtasks-id")


@dataclass(frozen=True)
class TurnScore:
    """Scores of one turn in [0, 1]; None where one does not apply or the intent is wrong.

    matches: whether the intent is right. chrf, urlf: of the text. iou: of the element.
    """

    matches: bool
    chrf: float | None = None
    urlf: float | None = None
    iou: float | None = None

    @property
    def overall(self) -> float | None:
        """The turn's score given its intent."""
        if self.iou is not None and self.chrf is not None:
            return self.iou * self.chrf
        return next((s for s in (self.urlf, self.chrf, self.iou) if s is not None), None)

    @property
    def text(self) -> float | None:
        """Of the text group: the better of both scores of an address, as the benchmark has it."""
        return max((s for s in (self.chrf, self.urlf) if s is not None), default=None)


def turn_score(turn: WebTurn, prediction: str) -> TurnScore:
    """The score of what a model wrote for a turn; what cannot be read scores 0."""
    predicted, intent = read_prediction(prediction), turn.action.intent
    if predicted.intent != intent:
        return TurnScore(matches=False)
    chrf = urlf = element = None
    if intent in _TEXTS:
        name = _TEXTS[intent]
        wanted = turn.action.arguments[name]
        said = _said(predicted, intent)
        chrf = 0.0 if said is None or is_number(said) else chrf_of(said, wanted)
        if intent == "load":
            urlf = 0.0 if said is None else url_f1(said, wanted)
    if intent in _ELEMENTS:
        element = _element_score(turn, predicted)
    return TurnScore(True, chrf, urlf, element)


def turn_columns(
    turns: Sequence[WebTurn], predictions: Sequence[str]
) -> Mapping[str, list[float | None]]:
    """Every score of every turn; None where it does not count in the score's mean.

    `overall`, `element` and `text` are unconditional: 0 where the intent is wrong, and so of
    turns of any intent, as the benchmark has it; `..._if_intent` are of turns whose intent is
    right.
    """
    scores = [turn_score(*pair) for pair in zip(turns, predictions, strict=True)]
    by_name = {
        "overall": [score.overall for score in scores],
        "element": [score.iou for score in scores],
        "text": [score.text for score in scores],
    }
    found: dict[str, list[float | None]] = {"intent": [float(score.matches) for score in scores]}
    for name, values in by_name.items():
        pairs = zip(scores, values, strict=True)
        found[name] = [value if score.matches else 0.0 for score, value in pairs]
        found[f"{name}_if_intent"] = values
    return {name: found[name] for name in sorted(found, key=lambda name: name != "overall")}


def left_out(turns: Sequence[WebTurn]) -> set[tuple[str, int]]:
    """Turns that the benchmark does not judge.

    Those whose element was not recorded or has no box on the page, and a click whose next turn
    submits the same element.
    """
    by_key = {turn.key: turn for turn in turns}
    found = set()
    for turn in turns:
        after = (turn.demo, turn.turn + 1)
        uid = turn.action.arguments["uid"] if "uid" in turn.action.arguments else None
        if uid is None or turn.action.intent not in _ELEMENTS:
            continue
        submits = (
            turn.action.intent == "click"
            and after in by_key
            and by_key[after].action.intent == "submit"
            and by_key[after].action.arguments["uid"] == uid
        )
        lacks = uid in ("", "None") or (turn.whole_page and uid not in turn.boxes)
        if submits or lacks:
            found.add(turn.key)
    return found


def judged_by_uid(turn: WebTurn) -> bool:
    """Whether the right element's box is not known, so that no other element can score."""
    arguments = turn.action.arguments
    return not turn.whole_page and "uid" in arguments and arguments["uid"] not in turn.boxes


def chrf_of(said: str, wanted: str) -> float:
    """chrF2 of character 1- to 6-grams without white space (Popović 2015), as sacrebleu has it."""
    return float(_chrf().sentence_score(said, [wanted]).score) / 100


def url_f1(said: str, wanted: str) -> float:
    """F1 of the sets of an address's host, without letters of "www." before it, and path parts."""
    try:
        own, right = _url_parts(said), _url_parts(wanted)
    except ValueError:
        return 0.0
    common = len(own & right)
    return 2 * common / (len(own) + len(right)) if said and wanted else 0.0


def _url_parts(url: str) -> set[str]:
    found = urllib.parse.urlparse(url)
    path = found.path.strip("/")
    return {found.netloc.lstrip("w."), *(path.split("/") if path else ())}


def _said(predicted: Action, intent: str) -> str | None:
    """The text of a prediction; for what is typed also by the name `value`."""
    names = ("text", "value") if intent == "textinput" else (_TEXTS[intent],)
    return next((predicted.arguments[n] for n in names if n in predicted.arguments), None)


def _element_score(turn: WebTurn, predicted: Action) -> float:
    if turn.action.intent == "scroll":
        return 0.0
    wanted, uid = turn.action.arguments["uid"], _element(predicted, turn.boxes)
    if uid is None or is_number(uid):
        return 0.0
    if judged_by_uid(turn):
        return float(uid == wanted)
    if uid not in turn.boxes or wanted not in turn.boxes:
        return 0.0
    return iou(turn.boxes[uid], turn.boxes[wanted])


def _element(predicted: Action, boxes: Mapping[str, Box]) -> str | None:
    for name in _UIDS:
        if name in predicted.arguments:
            return predicted.arguments[name]
    place = coordinates(predicted)
    return None if place is None else element_at(*place, boxes)


@cache
def _chrf() -> Any:
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise UserError(
            "turn scores need chrF of sacrebleu: pip install 'replay-jax[web]'"
        ) from error
    return CHRF()
