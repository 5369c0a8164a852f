"""The paper's own values beside those of a study that asks the same.

published.json holds them: arXiv 2603.04964, the fit and `baselines.py` of its plotting code. A
study names its part in `analysis.published`.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from replay_jax.analysis.study.records import MISSING, find
from replay_jax.analysis.study.selection import loss_of
from replay_jax.analysis.study.study import CellResult, TargetStudy
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.words import NONE, between, times

_TITLES = {"fine_tuning": "fine-tuning", "two_stage": "mid-training"}
_WHAT = {
    "worth": "replay is worth, times the target data",
    "no replay": "target loss without replay",
    "best replay": "target loss, best replay, all target data at the end",
    "best schedule": "target loss, best schedule of both stages",
}


def published_table(study: TargetStudy, records: Sequence[Mapping[str, Any]]) -> Table | None:
    """The published values of a target, or of all where it is none of the paper's, beside ours.

    None where the study names nothing published.
    """
    names = {find(record, "analysis.published") for record in records} - {"", MISSING}
    rows = [row for name in sorted(names) for row in _published()[name]]
    own = [row for row in rows if row["target"] == study.target]
    if not rows:
        return None
    other = "" if own else " Theirs are of other text, so compare signs and orders, not values."
    return Table(
        title="Published beside ours",
        columns=(
            Column("published for"),
            Column("protocol"),
            Column("what", "left wrap"),
            Column("published", "right"),
            Column("where", drop=1),
            Column("ours", "right"),
        ),
        rows=tuple(
            Line(
                (
                    row["target"],
                    _TITLES[row["protocol"]],
                    _WHAT[row["what"]],
                    f"{row['value']:.2f}" if row["what"] == "worth" else f"{row['value']:.3f}",
                    row["where"],
                    _ours(study, row["protocol"], row["what"]),
                )
            )
            for row in own or rows
        ),
        words=(
            "arXiv 2603.04964: single runs with one seed, no uncertainty published. Ours: losses "
            f"in nats per token at the smallest budget with replay.{other}"
        ),
        target=study.target,
    )


@functools.cache
def _published() -> dict[str, list[dict[str, Any]]]:
    text = Path(__file__).with_name("published.json").read_text(encoding="utf-8")
    found: dict[str, list[dict[str, Any]]] = json.loads(text)
    return found


def _ours(study: TargetStudy, protocol: str, what: str) -> str:
    cells = [cell for cell in study.cells if cell.key.protocol == protocol]
    replayed = [cell for cell in cells if cell.key.replay_fraction > 0]
    if not replayed:
        return NONE
    budget = min(cell.key.target_tokens for cell in replayed)
    found = [cell for cell in cells if cell.key.target_tokens == budget and _is_of(cell, what)]
    if not found:
        return NONE
    best = min(found, key=loss_of)
    return times(best.multiplier) if what == "worth" else between(best.target_loss, ".3f")


def _is_of(cell: CellResult, what: str) -> bool:
    late = cell.key.allocation == 1
    if what == "best schedule":
        return True
    return late and (cell.key.replay_fraction == 0) == (what == "no replay")
