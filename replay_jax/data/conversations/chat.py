"""Conversations as a tokenizer's own chat template renders them, and which characters count.

A template that marks what the assistant generated (`{% generation %}`) says it itself. Of any
other, what an assistant turn adds to the text is what the template renders with the turn and not
without it, asked for the turn. Where a turn is rendered otherwise once others follow (Qwen3 drops
what was thought), it is what stands there of it in the whole text: its content and its end.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from replay_jax.data.conversations.marked import Marked, Span, UnfitTemplate
from replay_jax.data.conversations.messages import Message, messages_of
from replay_jax.errors import UserError

LOSS_ON = ("assistant", "all")
_OTHER = "\ue000\ue001"  # content that no message has: of private use
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Chat:
    """A chat template.

    template: Jinja, run in a sandbox as `transformers` does, without the date of the day.
    tokens: (name, text) of the special tokens that it may use, such as ("bos_token", "<s>").
    special: texts of all special tokens of the tokenizer; no message may spell one.
    """

    template: str
    tokens: tuple[tuple[str, str], ...]
    special: tuple[str, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """What `from_plain` needs."""
        return {"template": self.template, "tokens": dict(self.tokens)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], special: tuple[str, ...]) -> "Chat":
        """The same again for a tokenizer with these special tokens."""
        return cls(plain["template"], tuple(plain["tokens"].items()), special)

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the text of a conversation."""
        facts = ["chat 1", self.template, sorted(self.tokens)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def render(self, messages: list[Message], **more: Any) -> tuple[str, list[Span]]:
        """The text of messages, and the characters that the template marks as generated.

        Raises UserError for what the template refuses.
        """
        blocks: list[str] = []
        marks: list[Span] = []
        self._marks.begin(blocks, marks)
        values = {"tools": None, "documents": None, "add_generation_prompt": False, **more}
        try:
            for block in self._compiled.generate(messages=messages, **dict(self.tokens), **values):
                blocks.append(block)
        except Exception as error:  # what it does with a message's values may raise anything
            raise UserError(f"the chat template refuses it ({error})") from error
        return "".join(blocks), marks

    def turn_end(self) -> str:
        """What the template puts behind what an assistant says."""
        said = "An answer."
        turns: list[Message] = [
            {"role": "user", "content": "A question?"}, {"role": "assistant", "content": said}
        ]  # fmt: skip
        _, found, after = self.render(turns)[0].rpartition(said)
        return after if found else ""

    @cached_property
    def end_token(self) -> str:
        """The special token that ends what an assistant says; "" where the template has none.

        Raises UserError for a template that refuses a question and its answer.
        """
        found = self.spelt and self.spelt.match(self.turn_end().lstrip())
        return found[0] if found else ""

    def check(self) -> None:
        """Raise UnfitTemplate if it is no template."""
        _ = self._compiled

    def check_messages(self, messages: list[Message]) -> None:
        """Raise UserError where a message spells a special token."""
        if self.spelt is None:
            return
        for number, message in enumerate(messages):
            for text in _strings(message):
                if found := self.spelt.search(text):
                    raise UserError(
                        f"message {number} ({message['role']}) spells the special token "
                        f"{found[0]!r}"
                    )

    @cached_property
    def marks_generation(self) -> bool:
        """Whether the template itself says what counts."""
        return _GENERATION.search(self.template) is not None

    @cached_property
    def _environment(self) -> ImmutableSandboxedEnvironment:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        return environment

    @property
    def _marks(self) -> "_Generation":
        found = self._environment.extensions[_Generation.identifier]
        assert isinstance(found, _Generation)
        return found

    @cached_property
    def _compiled(self) -> jinja2.Template:
        try:
            return self._environment.from_string(self.template)
        except (jinja2.TemplateError, SyntaxError, RecursionError) as error:
            # The latter two are of blocks and brackets nested deeper than Python's own.
            raise UnfitTemplate(f"the chat template cannot be read: {error}") from error

    @cached_property
    def spelt(self) -> re.Pattern[str] | None:
        """Finds a special token in a text; None without any."""
        names = sorted(filter(None, self.special), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names))) if names else None


@dataclass(frozen=True)
class ConversationTaker:
    """Renders the conversations of records. loss_on: of LOSS_ON, which turns count."""

    chat: Chat
    loss_on: str

    @property
    def fields(self) -> None:
        """As `Taker` has it."""
        return None

    def text(self, record: Mapping[str, Any], where: object) -> Marked:
        """The text of a record's conversation and what counts in it.

        Raises UserError for one that is none or that the template refuses, and UnfitTemplate
        where the template cannot say what counts.
        """
        messages = messages_of(record)
        self.chat.check_messages(messages)
        more = {"tools": record["tools"]} if "tools" in record else {}
        text, marks = self.chat.render(messages, **more)
        if self.loss_on == "all":
            spans = [(0, len(text))]
        elif self.chat.marks_generation:
            spans = [(start, stop) for start, stop in marks if start < stop]
        else:
            spans = list(self._added(messages, text, more))
        if not spans:
            raise UserError("the chat template marks nothing of it as generated")
        return Marked(text, tuple(spans), True, where)

    def _added(self, messages: list[Message], text: str, more: Mapping[str, Any]) -> Iterator[Span]:
        """What each assistant turn adds to the text; neighbours are asked for once together."""
        number = 0
        while number < len(messages):
            first = number
            while number < len(messages) and messages[number]["role"] == "assistant":
                number += 1
            if first < number:
                asked = {**more, "add_generation_prompt": True}
                before = self.chat.render(messages[:first], **asked)[0]
                whole = number == len(messages)
                after = text if whole else self.chat.render(messages[:number], **more)[0]
                if text.startswith(after) and after.startswith(before):
                    yield len(before), len(after)
                else:
                    turns = range(first, number)
                    yield from (self._standing(messages, turn, text, more) for turn in turns)
            number += 1

    def _standing(
        self, messages: list[Message], turn: int, text: str, more: Mapping[str, Any]
    ) -> Span:
        """A turn's content and its end in a text, by what another content would change of it."""
        other = [*messages[:turn], {**messages[turn], "content": _OTHER}, *messages[turn + 1 :]]
        changed = self.chat.render(other, **more)[0]
        start = _alike(text, changed)
        rest = _alike(text[start:][::-1], changed[start:][::-1])
        stop, end = len(text) - rest, self.chat.turn_end()
        content = str(messages[turn]["content"]) if "content" in messages[turn] else ""
        is_there = changed[start : len(changed) - rest] == _OTHER and text.startswith(end, stop)
        if not is_there or text[start:stop].strip() != content.strip():
            raise UnfitTemplate(
                f"the chat template has no {{% generation %}} marks, and what it renders of "
                f"message {turn} is not how it goes on (the roles are "
                f"{[m['role'] for m in messages]}); give tokenizer.chat_template a template with "
                "marks, or set loss_on='all'"
            )
        return start, stop + len(end)


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    return len(os.path.commonprefix([one, other]))


def _strings(value: object) -> Iterator[str]:
    """All texts in nested values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    # Jinja's own escapes what HTML would take for tags.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: where the text between the two comes to lie."""

    tags = {"generation"}

    def begin(self, blocks: list[str], marks: list[Span]) -> None:
        """The blocks rendered so far, to which the renderer adds, and where to put the marks."""
        self._blocks, self._found = blocks, marks

    def parse(self, parser: Any) -> nodes.Node:
        """As Jinja's extensions have it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_between")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _between(self, caller: Any) -> str:
        text: str = caller()
        start = sum(map(len, self._blocks))
        self._found.append((start, start + len(text)))
        return text
