"""What the paper and its authors' code publish: arXiv 2603.04964, single runs with one seed.

values.json holds it by study, as `analysis.published` names them. No uncertainty is published.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replay_jax.analysis.runs.records import MISSING, find


@dataclass(frozen=True)
class Published:
    """One published value.

    Attributes:
        target: source that it is of; "" where it is of none in particular.
        protocol: "fine_tuning", "two_stage", "uniform" or "continual".
        what: "worth" of replay, target loss with "no replay", the "best replay" (all target data at
            the end) or the "best schedule", "law": the reference recipe at `at` batches,
            "accuracy" or "score" at replay fraction `at`, what is "chosen" for `key`, or "words".
        value: times the target data, nats per token, a share, points; None where only words are
            published.
        where: it stands.
        of: further words: which budget, which source of replay, which claim.
        at: batches of target data, or a replay fraction.
        key: dotted, of what was chosen.
        cells: replay fraction and allocation of the best schedule, several where they tie.
        largest: it is of the study's largest budget, not of its smallest.
    """

    target: str
    protocol: str
    what: str
    value: float | None
    where: str
    of: str = ""
    at: float | None = None
    key: str = ""
    cells: tuple[tuple[float, float], ...] = ()
    largest: bool = False


def asked(records: Iterable[Mapping[str, Any]]) -> tuple[Published, ...]:
    """The published values of all studies that the records name, in the order of the names.

    Each once, also where two studies ask for the same one.
    """
    names = {find(record, "analysis.published") for record in records} - {"", MISSING}
    return tuple(dict.fromkeys(row for name in sorted(names) for row in published()[name]))


def of_target(rows: Sequence[Published], target: str) -> tuple[Published, ...]:
    """Those of a target and of none in particular; all where it is none of the paper's."""
    if all(row.target != target for row in rows):
        return tuple(rows)
    return tuple(row for row in rows if row.target in ("", target))


def best_cells(
    records: Iterable[Mapping[str, Any]], target: str
) -> dict[tuple[float, float], tuple[str, ...]]:
    """Targets of the paper by where (replay fraction, allocation) their lowest loss is published.

    Empty where the records' study asks for no grid of both.
    """
    found: dict[tuple[float, float], tuple[str, ...]] = {}
    rows = of_target([row for row in asked(records) if row.cells], target)
    for row in rows:
        for cell in row.cells:
            found[cell] = (*found.get(cell, ()), row.target)
    return found


def choices(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """What the authors chose along an axis whose curve they do not publish, by dotted key."""
    return {
        row.key: row.value
        for row in asked(records)
        if row.what == "chosen" and row.value is not None
    }


@functools.cache
def published() -> Mapping[str, tuple[Published, ...]]:
    """All of values.json."""
    plain = json.loads(Path(__file__).with_name("values.json").read_text(encoding="utf-8"))
    return {name: tuple(_row(each) for each in rows) for name, rows in plain.items()}


def _row(plain: Mapping[str, Any]) -> Published:
    cells = plain["cells"] if "cells" in plain else ()
    return Published(**{**plain, "cells": tuple((rho, alpha) for rho, alpha in cells)})
