"""Runs of this project that a tracker has: their records, analysed as their directory would be."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay_jax.analysis.runs.records import RECORD, check_record, load_records
from replay_jax.analysis.sources.logged import Logged
from replay_jax.library.gathering import Gathered, gathered


def is_records(path: Path) -> bool:
    """Whether a file of JSON lines begins with a record of ours, and not a row of a table."""
    with path.open("rb") as lines:
        try:
            first = json.loads(next(filter(bytes.strip, lines), b"null"))
        except (ValueError, RecursionError):
            return False
    return isinstance(first, dict) and RECORD.keys() <= first.keys()


def logged_records(path: Path) -> list[Logged]:
    """The records of a results.jsonl; raises UserError where a line is none."""
    return [Logged(str(r["name"]), {}, {}, r) for r in load_records(path)]


def gathered_again(runs: Sequence[Logged], place: str) -> Gathered:
    """Runs that all have a record; of one that was sent twice the first counts.

    Raises:
        UserError: what a run has is no record, or the records cannot be compared.
    """
    records: dict[str, dict[str, Any]] = {}
    for run in runs:
        check_record(run.record, f"run {run.name} of {place}")
        assert run.record is not None
        records.setdefault(str(run.record["id"]), dict(run.record))
    return gathered([(place, record) for record in records.values()])
