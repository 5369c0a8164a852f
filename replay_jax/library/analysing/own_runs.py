"""Runs of this project that a tracker has: their records, analysed as their directory would be."""

from collections.abc import Sequence
from typing import Any

from replay_jax.analysis.sources.logged import Logged
from replay_jax.analysis.study.records import check_record
from replay_jax.library.gathering import Gathered, gathered


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
