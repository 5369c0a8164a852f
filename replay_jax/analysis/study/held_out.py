"""Losses by held-out document, where records carry them.

    "loss_documents": {"target": {"document": [id, ...], "nats": [...], "tokens": [...]},
                       "generic": {...}}

One entry for each held-out row, or for each document: rows of one document have its id and are
summed. `nats` is the sum of an entry's next-token losses (not their mean) and `tokens` the number
of labels that it is over, so that sum(nats) / sum(tokens) is the record's loss. The field is
optional; without it in every record intervals speak of other seeds only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from replay_jax.analysis.noise.documents import DocumentLuck, document_luck
from replay_jax.analysis.runs.records import label
from replay_jax.analysis.study.groups import Setting
from replay_jax.errors import UserError

FIELD = "loss_documents"
_TOLERANCE = 1e-3  # nats per token: sums of float32 losses


def luck_of(settings: Sequence[Setting], domain: str) -> DocumentLuck | None:
    """The luck of the documents of a domain in every setting; None where records do not say.

    Raises:
      UserError: two records of a study name other documents, or nats that are not the loss.
    """
    records = [record for setting in settings for record in setting.records]
    if not all(FIELD in record and domain in record[FIELD] for record in records):
        return None
    names, tokens = None, np.zeros(0)
    nats = []
    for setting in settings:
        runs = []
        for record in setting.records:
            own, size, sums = _by_document(record, domain)
            if names is None:
                names, tokens = own, size
            if own != names or not np.array_equal(size, tokens):
                raise UserError(
                    f"run {label(record)} was evaluated on other {domain} documents than "
                    f"{label(records[0])}; analyse them apart"
                )
            runs.append(sums)
        nats.append(runs)
    return document_luck(nats, tokens)


def _by_document(
    record: Mapping[str, Any], domain: str
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """(documents, tokens [D], sums of nats [D]) of a record, sorted by document."""
    found = record[FIELD][domain]
    names, places = np.unique([str(name) for name in found["document"]], return_inverse=True)
    if not len(places) == len(found["nats"]) == len(found["tokens"]):
        raise UserError(
            f"run {label(record)}: {FIELD}.{domain} has {len(places)} documents, "
            f"{len(found['nats'])} nats and {len(found['tokens'])} tokens; give one of each a row"
        )
    tokens = np.bincount(places, weights=found["tokens"])
    nats = np.bincount(places, weights=found["nats"])
    loss = nats.sum() / tokens.sum()
    if abs(loss - record["losses"][domain]) > _TOLERANCE:
        raise UserError(
            f"run {label(record)}: {FIELD}.{domain} makes a loss of {loss:.4f}, the record says "
            f"{record['losses'][domain]:.4f}; nats are sums, not means"
        )
    return tuple(names.tolist()), tokens, nats
