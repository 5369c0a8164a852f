"""What an agent is asked: a turn as one text, every part of it within its budget of tokens."""

import re
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Any

from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.data.web.actions import NEEDED, Action
from replay_jax.data.web.budgets import Budgets
from replay_jax.data.web.candidates import Candidate
from replay_jax.data.web.shortening import Part, Shortener
from replay_jax.data.web.turn import WebTurn

# Of a candidate these stay whole while anything else can be cut.
_KEPT = ("tag", "bbox")
_ASKED = "Answer with the next action alone, in one of these forms: "


def prompt_of(turn: WebTurn, tokenizer: Tokenizer, budgets: Budgets) -> str:
    """The text that asks for a turn's action.

    At most the sum of the budgets and some 200 tokens of instructions.
    """
    shorter = Shortener(tokenizer)
    shown = turn.shown
    html = shorter.joined(list(_brackets(shown.html)), budgets.html)
    said = shorter.joined(list(_between(r"(\[\d+:\d+\])", shown.utterances)), budgets.utterances)
    done = shorter.joined(list(_between(r'("[^"]*")', shown.history, inside=True)), budgets.history)
    left = budgets.html + budgets.utterances + budgets.history
    left -= sum(map(shorter.length, (html, said, done)))
    elements = shorter.joined(list(_elements(shown.candidates)), budgets.candidates + left)
    parts = {
        "Page": html,
        "Viewport": shown.viewport,
        "Elements": elements and f"\n{elements}",
        "The user says": said,
        "Done so far": done,
    }
    told = [f"{name}: {text}" for name, text in parts.items() if text]
    return "\n".join([*told, _ASKED + " ; ".join(_forms())])


def conversation_of(turn: WebTurn, tokenizer: Tokenizer, budgets: Budgets) -> Mapping[str, Any]:
    """A turn as a record of kind `conversations`: loss on the action, which is never cut."""
    return {
        "demo": turn.demo,
        "turn": turn.turn,
        "split": turn.split,
        "prompt": prompt_of(turn, tokenizer, budgets),
        "completion": turn.text,
    }


def _forms() -> Iterator[str]:
    for intent, names in NEEDED.items():
        who = {"speaker": "navigator"} if intent == "say" else {}
        yield Action(intent, {**who, **dict.fromkeys(names, "…")}).text()


def _brackets(html: str) -> Iterator[Part]:
    """A tree's brackets stay, what stands between them may be cut."""
    for number, text in enumerate(re.split(r"([()<>])", html)):
        yield Part(text, number % 2 == 0)


def _between(marks: str, text: str, *, inside: bool = False) -> Iterator[Part]:
    """The parts between marks may be cut, or with `inside` the marked ones."""
    for number, piece in enumerate(re.split(marks, text)):
        yield Part(piece, (number % 2 == 1) == inside)


def _elements(candidates: tuple[Candidate, ...]) -> Iterator[Part]:
    for number, each in enumerate(candidates):
        yield Part(f"{chr(10) if number else ''}(uid = {each.uid})", False)
        for name, text in filter(itemgetter(1), each.fields):
            yield Part(f" [[{name}]] " if name else " ", False)
            yield Part(text, name not in _KEPT)
