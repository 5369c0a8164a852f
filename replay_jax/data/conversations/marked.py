"""Text of which some characters count in the loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from replay_jax.errors import UserError

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Marked:
    """The text of a record and what counts in it.

    spans: (first, one past the last) characters that count, ascending and apart.
    rendered: a chat template wrote it: special tokens are spelt out in it, and none are added.
    where: its `str` names file and line.
    """

    text: str
    spans: tuple[Span, ...]
    rendered: bool
    where: object


class UnfitTemplate(UserError):
    """No fault of a record: a template that cannot say which tokens count."""


class Taker(Protocol):
    """Makes the text of a record."""

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The fields that it needs; None for all."""

    def text(self, record: Mapping[str, Any], where: object) -> str | Marked:
        """The text, "" for an empty document; raises UserError with what is wrong with it."""


@dataclass(frozen=True)
class TextField:
    """Takes the text of one field; null is an empty document."""

    name: str

    @property
    def fields(self) -> tuple[str, ...]:
        """As `Taker` has it."""
        return (self.name,)

    def text(self, record: Mapping[str, Any], where: object) -> str:
        """As `Taker` has it."""
        return field_text(record, self.name)


def field_text(record: Mapping[str, Any], name: str) -> str:
    """The text of a field, "" for null; raises UserError where there is none."""
    if name not in record:
        raise UserError(f"no field {name!r}; the fields are {sorted(record)}")
    text = record[name]
    if isinstance(text, str) or text is None:
        return text or ""
    raise UserError(f"field {name!r} is {type(text).__name__}, not text")
