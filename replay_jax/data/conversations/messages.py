"""Conversations as chat templates take them, from the three forms in which they are published."""

from collections.abc import Mapping
from typing import Any

from replay_jax.errors import UserError

Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")
# What ShareGPT calls them.
_SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "system": "system", "tool": "tool",
}  # fmt: skip


def messages_of(record: Mapping[str, Any]) -> list[Message]:
    """The messages of a record, each with a role and what it says, null fields left out.

    Three forms: `messages` with role and content; `prompt` and `completion`, each a text or
    messages; `conversations` with from and value (ShareGPT).

    Raises UserError, naming message and field, for anything else and where no assistant speaks.
    """
    found = _said(record)
    if not any(message["role"] == "assistant" for message in found):
        roles = [message["role"] for message in found]
        raise UserError(f"a conversation without an assistant turn (roles {roles})")
    return found


def asked_of(record: Mapping[str, Any]) -> list[Message]:
    """The messages of a record before its last answer, which may also not be there.

    The forms are those of `messages_of`, and a `prompt` alone.

    Raises UserError, naming message and field, for anything else and where nothing is asked.
    """
    found = _said({"completion": [], **record} if "prompt" in record else record)
    while found and found[-1]["role"] == "assistant":
        found.pop()
    if not found:
        raise UserError("a conversation in which nothing is said before the assistant speaks")
    return found


def _said(record: Mapping[str, Any]) -> list[Message]:
    if "messages" in record:
        return _listed(record["messages"], "messages")
    if "conversations" in record:
        return [
            _from_sharegpt(message, number)
            for number, message in enumerate(_items(record["conversations"], "conversations"))
        ]
    if "prompt" in record and "completion" in record:
        found = _turns(record["prompt"], "prompt", "user")
        return found + _turns(record["completion"], "completion", "assistant")
    raise UserError(
        "no field 'messages', 'conversations', or 'prompt' and 'completion'; the fields are "
        f"{sorted(record)}"
    )


def _turns(value: object, field: str, role: str) -> list[Message]:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return _listed(value, field)


def _listed(value: object, field: str) -> list[Message]:
    return [_checked(message, f"{field}[{n}]") for n, message in enumerate(_items(value, field))]


def _items(value: object, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"field {field!r} is {type(value).__name__}, not a list of messages")
    return value


def _checked(message: object, where: str) -> Message:
    if not isinstance(message, Mapping):
        raise UserError(f"{where} is {type(message).__name__}, not a message")
    # Templates print "None" for what is null, where they leave out what is missing.
    found = {key: value for key, value in message.items() if value is not None}
    if "role" not in found:
        raise UserError(f"{where} has no field 'role'; its fields are {sorted(message)}")
    if found["role"] not in ROLES:
        raise UserError(f"{where} has role {found['role']!r}, not one of {', '.join(ROLES)}")
    if "content" not in found and "tool_calls" not in found:
        raise UserError(f"{where} has no field 'content'; its fields are {sorted(message)}")
    if "content" in found and not isinstance(found["content"], str):
        raise UserError(f"{where}: content is {type(found['content']).__name__}, not text")
    return found


def _from_sharegpt(message: object, number: int) -> Message:
    where = f"conversations[{number}]"
    if not isinstance(message, Mapping):
        raise UserError(f"{where} is {type(message).__name__}, not a message")
    for name in ("from", "value"):
        if name not in message:
            raise UserError(f"{where} has no field {name!r}; its fields are {sorted(message)}")
    speaker = message["from"]
    if not isinstance(speaker, str) or speaker not in _SPEAKERS:
        raise UserError(f"{where} is from {speaker!r}, not one of {', '.join(_SPEAKERS)}")
    return _checked({"role": _SPEAKERS[speaker], "content": message["value"]}, where)
