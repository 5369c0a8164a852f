"""results.jsonl while a sweep runs: always whole, and not written again for every run that ends.

It holds every record, 60 MB for 10,000 runs, so it is replaced when a tenth more runs have ended or
when writing it has become a small part of the time since; and at the beginning and the end.
"""

import json
import time
from collections.abc import Sequence

from replay_jax.sweep.store.facts import damaged, write_text
from replay_jax.sweep.store.workdir import WorkStore

_GROWTH = 1.1
# At least so long between two, and so many times what one takes.
_SECONDS, _TIMES = 5.0, 500.0


class Published:
    """The lines of results.jsonl, one per finished run, in the order of the sweep."""

    def __init__(self, store: WorkStore, ids: Sequence[str]) -> None:
        self._store, self._ids = store, ids
        finished = store.finished_runs()
        there = [id for id in ids if id in finished]
        records = zip(there, store.results(there), strict=True)
        self._lines = {id: self._line(id, record) for id, record in records if record is not None}
        self._written, self._at, self._took = 0, 0.0, 0.0

    def __len__(self) -> int:
        """Number of finished runs."""
        return len(self._lines)

    def add(self, id: str) -> None:
        """A run may have ended; whether it has a result is looked up."""
        record = self._store.result(id)
        if record is not None:
            self._lines[id] = self._line(id, record)

    def write_if_due(self) -> None:
        """Write the file if enough has changed since it was written."""
        since = time.monotonic() - self._at
        grown = len(self._lines) >= _GROWTH * self._written
        if len(self._lines) > self._written and (
            grown or since > max(_SECONDS, _TIMES * self._took)
        ):
            self.write()

    def write(self) -> None:
        """Write the file."""
        self._store.confirm()
        began = time.monotonic()
        text = "".join(self._lines[id] for id in self._ids if id in self._lines)
        write_text(self._store.root / "results.jsonl", text)
        self._written, self._at = len(self._lines), time.monotonic()
        self._took = self._at - began

    def _line(self, id: str, record: object) -> str:
        try:
            return json.dumps(record, allow_nan=False) + "\n"
        except ValueError as error:  # a number that is none, where there is no checksum
            raise damaged(self._store.result_path(id), str(error)) from error
