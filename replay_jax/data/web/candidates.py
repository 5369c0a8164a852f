"""Candidate elements of a page, as the data sets write them: `(uid = ...) [[tag]] ...`."""

import re
from typing import Any, NamedTuple

from replay_jax.data.web.boxes import Box, spelt_box
from replay_jax.errors import UserError

_UID = re.compile(r"\(uid = ([^)\s]+)\)")
_FIELD = re.compile(r"\[\[(\w+)\]\]")


class Candidate(NamedTuple):
    """An element: its uid, and (name, text) of what is said of it: tag, xpath, text, bbox, ..."""

    uid: str
    fields: tuple[tuple[str, str], ...]

    @property
    def box(self) -> Box | None:
        """None where no bounding box is said."""
        return next((spelt_box(text) for name, text in self.fields if name == "bbox"), None)


def candidates_of(value: Any) -> tuple[Candidate, ...]:
    """Candidates from one text, or from a list of objects with uid and doc; null is none.

    Raises UserError for anything else, and for a text that names no uid.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        parts = _UID.split(value)
        if len(parts) < 3:
            raise UserError(f"candidates name no (uid = ...): {value[:60]!r}")
        return tuple(map(_candidate, parts[1::2], parts[2::2]))
    if not isinstance(value, list):
        raise UserError(f"candidates are {type(value).__name__}, neither a text nor a list")
    for each in value:
        if not isinstance(each, dict) or not all(
            name in each and isinstance(each[name], str) for name in ("uid", "doc")
        ):
            raise UserError(f"a candidate needs uid and doc as texts: {str(each)[:60]}")
    return tuple(_candidate(each["uid"], each["doc"]) for each in value)


def _candidate(uid: str, doc: str) -> Candidate:
    parts = _FIELD.split(doc)
    folded = [" ".join(text.split()) for text in parts]
    named = list(zip(folded[1::2], folded[2::2], strict=True))
    return Candidate(uid, tuple(([("", folded[0])] if folded[0] else []) + named))
