"""What runs replay, where a study compares that: the axis "replay" of its cells.

Its values name the source of the generic rows, and "by KL" where these are held to the model that
training starts from. A run that draws no generic row is the run without replay of every one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from replay_jax.analysis.runs.records import MISSING, find, replay_fraction

Record = Mapping[str, Any]
AXIS = "replay"
# What the axis stands for, so that neither key is an axis of its own.
KEYS = frozenset({"data.generic", "training.generic_objective"})


def compared_replays(records: Sequence[Record]) -> list[tuple[Record, tuple[str, ...]]]:
    """The runs of a target, each with the values of the axis at which it stands.

    None where all that replay anything replay the same, or where runs do not say what. Of runs
    without replay that are one training, as nothing else tells them apart, the first is kept.
    """
    drawing = [record for record in records if not _draws_nothing(record)]
    if any(find(record, "data.generic") is MISSING for record in drawing):
        return [(record, ()) for record in records]
    values = tuple(sorted({_words(record) for record in drawing}))
    if len(values) < 2:
        return [(record, ()) for record in records]
    found: list[tuple[Record, tuple[str, ...]]] = []
    ends: set[str] = set()
    for record in records:
        if not _draws_nothing(record):
            found.append((record, (_words(record),)))
        elif (end := _end(record)) not in ends:
            ends.add(end)
            found.append((record, values))
    return found


def _draws_nothing(record: Record) -> bool:
    """Whether no row of a run is generic: stages before the last would have been."""
    return record["protocol"] == "continual" and replay_fraction(record) == 0


def _words(record: Record) -> str:
    by_kl = find(record, "training.generic_objective") == "kl"
    return f"{record['generic']} by KL" if by_kl else str(record["generic"])


def _end(record: Record) -> str:
    """The state that a run ended in; its id where it does not say."""
    history = record["history"] if "history" in record else ()
    return str(history[-1]["state"] if history else record["id"])
