"""Runs judged by the best state on their way in place of their last (early stopping).

A record carries what that gives, its state being chosen on other documents than it is judged by:

    "early_stopping": {"steps": [2], "losses": {"target": ..., "generic": ...},
                       "nats": {"target": [...], "generic": [...]}}

`nats` are by document, as those of its `loss_documents`, which they take the place of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.analysis.runs.records import label
from replay_jax.analysis.study.held_out import FIELD
from replay_jax.errors import UserError

STOPPING = "early_stopping"
NOTE = (
    "every run is judged by the best state that was measured on its way, which one half of the "
    "held-out target documents chose and the other judges (early stopping); a model of the last "
    "state is what is kept"
)


def stopped_early(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records with the losses of their best states in place of their last ones.

    Raises:
      UserError: a run was measured at its end alone.
    """
    return [_stopped(record) for record in records]


def _stopped(record: Mapping[str, Any]) -> Mapping[str, Any]:
    if STOPPING not in record:
        raise UserError(
            f"run {label(record)} was measured at its end alone, so it cannot be stopped early: "
            "train it with training.evaluate_every, or leave analysis.early_stopping off"
        )
    said = record[STOPPING]
    documents = {
        role: {**found, "nats": said["nats"][role]} for role, found in record[FIELD].items()
    }
    return {**record, "losses": said["losses"], FIELD: documents, **_bits(record, said["losses"])}


def _bits(record: Mapping[str, Any], losses: Mapping[str, float]) -> dict[str, Any]:
    """Bits per byte in proportion to the losses, where the record has any."""
    if "bits_per_byte" not in record:
        return {}
    bits = {
        role: None if value is None else value * losses[role] / record["losses"][role]
        for role, value in record["bits_per_byte"].items()
    }
    return {"bits_per_byte": bits}
