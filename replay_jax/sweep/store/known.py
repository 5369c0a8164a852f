"""What need not be trained again: results, saved states and ends that can be relied on.

A state counts only together with the spans that lead to it. Every span is read once at most, and
whether an end counts is looked up only for the runs that are not finished: a bucket takes its time
for each.
"""

from etils import epath

from replay_jax.sweep.plan.work import Done
from replay_jax.sweep.store.segment import Segment
from replay_jax.sweep.store.workdir import WorkStore
from replay_jax.training.saving.saved import is_complete


def done(store: WorkStore) -> Done:
    """What a working directory holds, as a plan asks for it."""
    spans = _Spans(store)
    return Done(frozenset(store.finished_runs()), _saved(store, spans), KeptEnds(store, spans))


def saved_states(store: WorkStore) -> dict[str, int]:
    """Digest and step of every complete state whose history is known as well."""
    return _saved(store, _Spans(store))


def params_path(store: WorkStore, digest: str) -> epath.Path | None:
    """Where the parameters of a state can be read, or None."""
    for path in (store.state_path(digest), store.end_path(digest)):
        if is_complete(path) and _Spans(store).lead_to(digest):
            return path
    return None


class KeptEnds:
    """States whose parameters are kept and whose history is known, looked up when asked for."""

    def __init__(self, store: WorkStore, spans: "_Spans | None" = None) -> None:
        self._store, self._spans = store, spans or _Spans(store)
        self._names = store.end_names()

    def __contains__(self, digest: object) -> bool:
        return (
            isinstance(digest, str)
            and digest in self._names
            and is_complete(self._store.end_path(digest))
            and self._spans.lead_to(digest)
        )


class _Spans:
    """The spans of a working directory, each read once."""

    def __init__(self, store: WorkStore) -> None:
        self._store = store
        self._read: dict[str, Segment | None] = {}
        self._leads: dict[str, bool] = {}

    def get(self, digest: str) -> Segment | None:
        if digest not in self._read:
            self._read[digest] = self._store.segment(digest)
        return self._read[digest]

    def lead_to(self, digest: str) -> bool:
        """Whether all spans from the initial state to this one are known."""
        way: list[str] = []
        leads = True
        while leads:
            if digest in self._leads:
                leads = self._leads[digest]
                break
            way.append(digest)
            span = self.get(digest)
            leads = span is not None
            if span is None or not span.start.step:
                break
            if span.start.step >= span.stop.step:  # damaged: it may lead in a circle
                leads = False
                break
            digest = span.start.digest
        self._leads.update(dict.fromkeys(way, leads))
        return leads


def _saved(store: WorkStore, spans: _Spans) -> dict[str, int]:
    found = {}
    for name in sorted(store.state_names()):
        span = spans.get(name) if is_complete(store.state_path(name)) else None
        if span is not None and spans.lead_to(name):
            found[name] = span.stop.step
    return found
