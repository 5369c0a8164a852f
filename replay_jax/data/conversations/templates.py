"""Any record as text: a template with fields in braces, some of which count in the loss."""

import string
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from replay_jax.data.conversations.marked import Marked, Span, field_text
from replay_jax.errors import UserError


class RecordTemplate:
    """Text from the fields of a record, as in "{question}\\n{answer}"; "{{" is a brace.

    With `loss_fields` the texts are `Marked`: what these fields gave counts, all else is context.
    Raises UserError for a template without fields, or one that does not have a loss field.
    """

    def __init__(self, template: str, loss_fields: tuple[str, ...]) -> None:
        self._template, self._loss = template, frozenset(loss_fields)
        for name in loss_fields:
            if name not in self.fields:
                raise UserError(
                    f"loss_fields names {name!r}, but template {template!r} has the fields "
                    f"{', '.join(self.fields)}"
                )

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields in the order of the template, each once."""
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    @cached_property
    def _parts(self) -> tuple[tuple[str, str | None], ...]:
        """Literal texts, each with the field that follows it."""
        try:
            parts = list(string.Formatter().parse(self._template))
        except ValueError as error:
            raise UserError(f"template {self._template!r} cannot be read: {error}") from error
        if any(spec or conversion or name == "" for _, name, spec, conversion in parts):
            raise UserError(
                f"template {self._template!r} may have the names of fields in braces and nothing "
                "else; write {{ and }} for braces"
            )
        if not any(name for _, name, _, _ in parts):
            raise UserError(f"template {self._template!r} has no field; write one as {{name}}")
        return tuple((literal, name) for literal, name, _, _ in parts)

    def text(self, record: Mapping[str, Any], where: object) -> str | Marked:
        """The text of a record, "" where all its fields are empty; null is an empty field.

        Raises UserError for a missing field, and where only fields without loss have text.
        """
        pieces: list[str] = []
        spans: list[Span] = []
        at, empty = 0, True
        for literal, name in self._parts:
            value = "" if name is None else field_text(record, name)
            start = at + len(literal)
            at = start + len(value)
            pieces += (literal, value)
            if value:
                empty = False
                if name in self._loss:
                    spans.append((start, at))
        if empty:
            return ""
        if not self._loss:
            return "".join(pieces)
        if not spans:
            raise UserError(f"no text in {', '.join(sorted(self._loss))}, so nothing would count")
        return Marked("".join(pieces), tuple(spans), False, where)
