"""What texts go on from: a field of records, or conversations that lack their last answer.

A conversation is asked as training read it: by the tokenizer's chat template, whole, its special
tokens spelt, and nothing added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay_jax.data.conversations.chat import Chat
from replay_jax.data.conversations.messages import asked_of
from replay_jax.data.sources.files import read_objects
from replay_jax.errors import UserError
from replay_jax.library.texts.encoding import Encoding


@dataclass(frozen=True)
class Begun:
    """The tokens of a prompt, one at least; what its line says of it; and where it stands."""

    tokens: list[int]
    about: Mapping[str, Any]
    where: str


def nothing_begun(encoding: Encoding) -> list[Begun]:
    """The prompt of a text that begins with nothing: what texts follow that follow nothing."""
    return [Begun([encoding.prefix_id], {"prompt": ""}, "an empty prompt")]


def text_prompts(encoding: Encoding, path: Path, field: str) -> list[Begun]:
    """A field of every record of a file of JSON lines (also .gz, .zst).

    Raises:
        UserError: no such file, no record, or one without a text in that field; names the line.
    """
    found = []
    for where, record in read_objects(path, "prompts"):
        text = _text(record, field, where)
        found.append(Begun(encoding.encode(text) or [encoding.prefix_id], {"prompt": text}, where))
    return found


def chat_prompts(encoding: Encoding, path: Path) -> list[Begun]:
    """Every conversation of a file, up to where the assistant speaks last.

    Raises:
        UserError: no such file, no record, one that is no conversation or that the template
            refuses (names the line), or the model has no chat template.
    """
    chat = encoding.chat()
    return [_asked(encoding, chat, *each) for each in read_objects(path, "prompts")]


def check_lengths(prompts: list[Begun], *, new_tokens: int, positions: int, name: str) -> None:
    """Refuse what a model cannot read, before anything is written.

    Raises UserError for a prompt that with its new tokens exceeds the model's positions.
    """
    for prompt in prompts:
        if len(prompt.tokens) + new_tokens > positions:
            raise UserError(
                f"{prompt.where}: {len(prompt.tokens):,} tokens and {new_tokens:,} new ones are "
                f"more than the {positions:,} positions of {name}: cut the prompt, or ask for "
                "fewer with --new_tokens"
            )


def _asked(encoding: Encoding, chat: Chat, where: str, record: Mapping[str, Any]) -> Begun:
    more = {"tools": record["tools"]} if "tools" in record else {}
    try:
        messages = asked_of(record)
        chat.check_messages(messages)
        text, _ = chat.render(messages, add_generation_prompt=True, **more)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    tokens = encoding.encode(text, marks=False)
    return Begun(tokens or [encoding.prefix_id], record, where)


def _text(record: Mapping[str, Any], field: str, where: str) -> str:
    if field not in record:
        raise UserError(f"{where} has no field {field!r}: name the prompts' with --field")
    if not isinstance(record[field], str):
        raise UserError(f"{where}: {field} must be text, not {record[field]!r}")
    return str(record[field])
