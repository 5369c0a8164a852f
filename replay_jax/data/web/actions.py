"""Actions as text, `click(uid="...")`: read strictly, and as tolerantly as the benchmark does.

Predictions are read as WebLINX's evaluation reads them (weblinx 0.3.2, `processing.outputs`): the
first name before a bracket, its arguments up to the next bracket outside quotes, and no escapes.
References, which must be right, are read by a grammar.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from replay_jax.errors import UserError
from replay_jax.strict import nearest

# What is evaluated, each with the arguments that make one.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "change": ("value", "uid"),
    "click": ("uid",),
    "load": ("url",),
    "say": ("utterance",),
    "scroll": ("x", "y"),
    "submit": ("uid",),
    "textinput": ("text", "uid"),
}
_OTHERS = ("hover", "copy", "paste", "tabcreate", "tabremove", "tabswitch")
_SPELT = {"textinput": "text_input"}
_CALL = re.compile(r"\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
_KEY = re.compile(r"(?:^|,)\s*(\w+)\s*=\s*")


@dataclass(frozen=True)
class Action:
    """What is done: an intent in lower case, "" where none was read, and its arguments as text."""

    intent: str
    arguments: Mapping[str, str]

    def text(self) -> str:
        """The action in words that `read_reference` reads, numbers without quotes."""
        items = self.arguments.items()
        said = (f"{k}={v}" if k in ("x", "y") else f'{k}="{v}"' for k, v in items)
        name = _SPELT[self.intent] if self.intent in _SPELT else self.intent
        return f"{name}({', '.join(said)})"


UNREAD = Action("", {})


def read_prediction(text: str) -> Action:
    """The action that a model's output is taken for; `UNREAD` or one without some arguments."""
    name, bracket, rest = text.partition("(")
    if not bracket:
        return UNREAD
    spelt = re.search(r"\w*\Z", name)
    assert spelt is not None
    arguments: dict[str, str] = {}
    for piece in _pieces(rest):
        key, equals, value = piece.strip().partition("=")
        if equals:
            arguments[key.strip()] = _unquoted(value)
    intent = _intent(spelt[0])
    if intent == "action":  # a form of the benchmark's in which the intent is an argument
        intent = _intent(arguments["intent"]) if "intent" in arguments else ""
    return Action(intent if intent in NEEDED or intent in _OTHERS else "", arguments)


def read_reference(text: str) -> Action:
    """The action of a record.

    Raises UserError for one that is no call, is not evaluated, or lacks an argument.
    """
    call = _CALL.fullmatch(text)
    if call is None:
        raise UserError(f"the action {text[:80]!r} is not of the form name(argument=value, ...)")
    intent = _intent(call[1])
    if intent not in NEEDED:
        raise UserError(f"the action {text[:80]!r} does nothing known: {nearest(intent, NEEDED)}")
    found = _keyed(call[2])
    for name in NEEDED[intent]:
        if name not in found:
            raise UserError(f"the action {text[:80]!r} has no {name}")
    return Action(intent, found)


def is_number(text: str) -> bool:
    """Whether the benchmark's reader takes a value for a number, quoted or not."""
    if "." not in text:
        return text.removeprefix("-").isdigit()
    try:
        float(text)
    except ValueError:
        return False
    return True


def coordinates(action: Action) -> tuple[float, float] | None:
    """The place x, y of an action, also where no comma stands between the two."""
    given = action.arguments
    if "x" in given and "y" in given:
        pair = given["x"], given["y"]
    elif "x" in given and "y=" in given["x"]:
        pair = given["x"].partition("y=")[::2]
    elif "y" in given and "x=" in given["y"]:
        pair = given["y"].partition("x=")[::-2]
    else:
        return None
    try:
        return float(pair[0]), float(pair[1])
    except ValueError:
        return None


def _intent(name: str) -> str:
    return name.lower().strip().replace("_", "")


def _pieces(rest: str) -> list[str]:
    """What stands between commas outside quotes, up to a bracket outside quotes."""
    pieces, quoted = [""], False
    for letter in rest:
        if letter == ")" and not quoted:
            break
        quoted ^= letter == '"'
        if letter == "," and not quoted:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def _keyed(body: str) -> dict[str, str]:
    """Arguments by name: a value ends where a key follows and its quotes are closed."""
    starts = list(_KEY.finditer(body))
    found: dict[str, str] = {}
    while starts:
        key, ends = starts[0], [*(mark.start() for mark in starts[1:]), len(body)]
        value = body[key.end() :]
        for number, end in enumerate(ends, start=1):
            value = body[key.end() : end].strip()
            if not value.startswith('"') or (len(value) > 1 and value.endswith('"')):
                starts = starts[number:]
                break
        else:
            starts = []
        found[key[1]] = _unquoted(value)
    return found


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:-1] if value.startswith('"') and value.endswith('"') else value
