"""The paper's own values beside those of a study that asks the same, as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.analysis.study.study import TargetStudy
from replay_jax.report.elements.blocks import Column, Line, Table
from replay_jax.report.elements.words import NONE, between, number, times
from replay_jax.report.published.ours import ours
from replay_jax.report.published.values import Published, asked, of_target

_TITLES = {
    "fine_tuning": "fine-tuning",
    "two_stage": "mid-training",
    "uniform": "reference",
    "continual": "continual",
}


def published_table(study: TargetStudy, records: Sequence[Mapping[str, Any]]) -> Table | None:
    """The published values of a target, or of all where it is none of the paper's, beside ours.

    None where the study names nothing published.
    """
    rows = of_target(asked(records), study.target)
    if not rows:
        return None
    own = any(row.target == study.target for row in rows)
    other = any(row.target for row in rows) and not own
    return Table(
        title="Published beside ours",
        columns=(
            Column("published for"),
            Column("protocol"),
            Column("what", "left wrap"),
            Column("published", "right"),
            Column("where", "left wrap", drop=1),
            Column("ours", "right"),
        ),
        rows=tuple(Line(_cells(study, row, records)) for row in rows),
        words=(
            "arXiv 2603.04964: single runs with one seed, no uncertainty published. Ours: losses "
            "in nats per token at the smallest budget with replay, unless a line names another."
            + " Theirs are of other text, so compare signs and orders, not values."
            * other
        ),
        target=study.target,
    )


def _cells(
    study: TargetStudy, row: Published, records: Sequence[Mapping[str, Any]]
) -> tuple[str, ...]:
    found = ours(study, row, records)
    if row.what == "worth":
        own = times(found.value)
    else:
        own = found.words or between(found.value, ".3f")
    return row.target or "all", _TITLES[row.protocol], _what(row), _number(row), row.where, own


def _what(row: Published) -> str:
    """What a value is of, in words."""
    at = "" if row.at is None else f"{row.at:g}"
    return {
        "worth": "replay is worth, times the target data",
        "no replay": "target loss without replay",
        "best replay": "target loss, best replay, all target data at the end",
        "best schedule": f"target loss, best schedule of both stages{_at(row.cells)}",
        "law": f"target loss of the reference recipe, {at} batches",
        "accuracy": f"accuracy, {row.of}, ρ {at}",
        "score": f"score, {row.of}, ρ {at}",
        "chosen": f"chosen of {row.key}",
        "words": row.of,
    }[row.what]


def _at(cells: Sequence[tuple[float, float]]) -> str:
    places = " or ".join(f"ρ {rho:g}, α {alpha:g}" for rho, alpha in cells)
    return f" ({places})" if places else ""


def _number(row: Published) -> str:
    if row.value is None:
        return NONE
    digits = {"worth": ".2f", "score": ".2f", "chosen": "g"}
    return number(row.value, digits[row.what] if row.what in digits else ".3f")
