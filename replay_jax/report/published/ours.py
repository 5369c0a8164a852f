"""What a study has to set beside a published value, and how it changes where that is what counts.

Ours are at the smallest budget with a schedule that replays, in nats per token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from replay_jax.analysis.advice.compare import compare
from replay_jax.analysis.runs.records import find, text
from replay_jax.analysis.statistics.bootstrap import Interval
from replay_jax.analysis.study.selection import Records, loss_of, records_of
from replay_jax.analysis.study.study import CellResult, TargetStudy, replays
from replay_jax.analysis.study.task_scores import task_names, task_results
from replay_jax.report.published.values import Published


@dataclass(frozen=True)
class Ours:
    """A study's own value; `words` stand for it where it is a choice and no number of its kind."""

    value: Interval | None = None
    words: str = ""


@dataclass(frozen=True)
class Gained:
    """What a value is beside its own point of comparison; ours is None where we have none.

    `unit` is WORTH, NATS or ACCURACY; `label` says which comparison is published, `own` which ours.
    """

    label: str
    own: str
    unit: str
    published: float | None
    ours: Interval | None


WORTH, NATS, ACCURACY = "worth", "nats", "accuracy"


def ours(study: TargetStudy, row: Published, records: Sequence[Mapping[str, Any]]) -> Ours:
    """The study's counterpart of a published value; empty where it has none."""
    if row.what == "chosen":
        return Ours(words=_chosen(study, row.key, records))
    cell = _cell(study, row, records)
    if cell is None:
        return Ours()
    if row.what == "worth":
        return Ours(cell.multiplier)
    if row.what == "accuracy":
        return Ours(_accuracy(study, cell, records))
    return Ours(cell.target_loss)


def gained(
    study: TargetStudy, rows: Sequence[Published], records: Sequence[Mapping[str, Any]]
) -> tuple[Gained, ...]:
    """Every published value that stands for a gain, beside the study's own."""
    found = []
    for row in rows:
        base = next((each for each in rows if _is_base(each, row)), None)
        if row.what == "worth":
            own = ours(study, row, records).value
            found.append(Gained(label_of(row), label_of(row), WORTH, row.value, own))
        elif base is not None and base is not row and None not in (row.value, base.value):
            assert row.value is not None and base.value is not None
            more = row.value - base.value
            change, unit = (more, ACCURACY) if row.what == "accuracy" else (-more, NATS)
            value = _change(study, row, base, records)
            found.append(Gained(label_of(row), _own_label(row), unit, change, value))
    return tuple(found)


def label_of(row: Published) -> str:
    """Which comparison a row is, without its target."""
    title = {"fine_tuning": "fine-tuning", "two_stage": "mid-training"}.get(row.protocol, "")
    if row.what == "law":
        return f"{row.at:g} batches instead of 1"
    if row.what in ("accuracy", "score"):
        return f"{row.of}, ρ {row.at:g}"
    return f"{title}, {row.what}" if row.what != "worth" else title


def _own_label(row: Published) -> str:
    """Our comparison: at a budget of our own where the published one names theirs."""
    if row.what == "accuracy":
        return f"{'largest' if row.largest else 'smallest'} budget, ρ {row.at:g}"
    return label_of(row)


def _is_base(base: Published, row: Published) -> bool:
    """Whether a row is what another is compared with."""
    if (base.target, base.protocol) != (row.target, row.protocol):
        return False
    if row.what in ("best replay", "best schedule"):
        return base.what == "no replay"
    if row.what == "law":
        return base.what == "law" and base.at == 1
    return row.what == "accuracy" == base.what and base.of == row.of and base.at == 0


def _change(
    study: TargetStudy, row: Published, base: Published, records: Sequence[Mapping[str, Any]]
) -> Interval | None:
    own, other = (_cell(study, each, records) for each in (row, base))
    if own is None or other is None:
        return None
    if row.what == "accuracy":
        by_id: Records = {record["id"]: record for record in records}
        names = task_names(records)
        return task_results(study, [own], by_id, names[0])[0].change if names else None
    places = [next(i for i, c in enumerate(study.cells) if c is cell) for cell in (own, other)]
    return compare(study, places[:1], places[1:]).gain


def _accuracy(
    study: TargetStudy, cell: CellResult, records: Sequence[Mapping[str, Any]]
) -> Interval | None:
    by_id: Records = {record["id"]: record for record in records}
    names = task_names([record for record in records if record["target"] == study.target])
    return task_results(study, [cell], by_id, names[0])[0].accuracy if names else None


def _cell(
    study: TargetStudy, row: Published, records: Sequence[Mapping[str, Any]]
) -> CellResult | None:
    """The cell that a row is about: of several the one of lowest target loss."""
    cells = [cell for cell in study.cells if cell.key.protocol == row.protocol]
    if row.what == "law":
        by_id: Records = {record["id"]: record for record in records}
        found = [cell for cell in cells if _batches(cell, by_id) == row.at]
    else:
        budgets = {cell.key.target_tokens for cell in cells if replays(cell)}
        budget = (max if row.largest else min)(budgets, default=None)
        found = [c for c in cells if c.key.target_tokens == budget and _is_of(c, row)]
    return min(found, key=loss_of, default=None)


def _batches(cell: CellResult, records: Records) -> float:
    """The budget of a cell in batches of its own runs."""
    training = records_of(cell, records)[0]["config"]["training"]
    return cell.key.target_tokens / (training["batch_size"] * training["seq_len"])


def _is_of(cell: CellResult, row: Published) -> bool:
    if row.what == "best schedule":
        return True
    if row.what == "accuracy":
        return cell.key.replay_fraction == row.at
    if row.what not in ("worth", "no replay", "best replay"):
        return False
    return cell.key.allocation == 1 and replays(cell) == (row.what != "no replay")


def _chosen(study: TargetStudy, key: str, records: Sequence[Mapping[str, Any]]) -> str:
    """The value of a key at the lowest loss of what does not replay, with that loss."""
    by_id: Records = {record["id"]: record for record in records}
    found = [
        (setting.target_loss, text(find(by_id[setting.run_ids[0]], key)))
        for cell in study.cells
        if not replays(cell)
        for setting in cell.settings
    ]
    if not found:
        return ""
    loss, value = min(found)
    return f"{value} (loss {loss:.3f})"
