"""Which labels of each source count in the loss, how many do, and what each weighs."""

from collections.abc import Mapping, Sequence

import numpy as np

from replay_jax.config.experiment import ExperimentConfig
from replay_jax.data.ledger.planned import Entry, RowLabels
from replay_jax.data.reading.views import SourceView
from replay_jax.data.tokens.store import TokenStore
from replay_jax.schedule.mixture import step_draws
from replay_jax.schedule.stages import Schedule
from replay_jax.sweep.plan.found import Stores


def loss_weights(
    config: ExperimentConfig, schedule: Schedule, views: Mapping[str, SourceView]
) -> dict[str, float]:
    """Of the labels of every source that a schedule draws from, in its order.

    1 unless given; with the objective "rows", as much more as the average row of a source has
    fewer labels that count, so that a source's share of the loss is its share of the rows.
    """
    weights = dict.fromkeys(schedule.source_names, 1.0)
    given = dict(config.training.loss_weights)
    for name in weights:
        weights[name] = given[name] if name in given else 1.0
        labels = views[name].labels_per_row
        if config.training.objective == "rows" and labels is not None:
            weights[name] *= config.training.seq_len / labels
    return weights


def held_sources(config: ExperimentConfig, schedule: Schedule) -> tuple[str, ...]:
    """Sources that a schedule draws from and whose rows are held to the base (`model.kl`)."""
    names = schedule.generics if config.holds_generic_to_base else ()
    return tuple(name for name in names if schedule.sequences(name))


def held_updates(config: ExperimentConfig, schedule: Schedule) -> frozenset[int]:
    """Numbers of the updates that have rows of such sources; all others know nothing of a base."""
    held = held_sources(config, schedule)
    if not held:
        return frozenset()
    numbers = [schedule.source_names.index(name) for name in held]
    drawn = step_draws(schedule).count[:, numbers].any(axis=1)
    return frozenset(np.flatnonzero(drawn).tolist())


def labels_of(store: TokenStore | None, config: ExperimentConfig) -> np.ndarray | None:
    """Labels of each training row that count, int64 [rows]; None where all do, or unprepared."""
    if store is None or not store.masked:
        return None
    return store.rows("train", config.training.seq_len).supervised()


def row_labels(
    config: ExperimentConfig, schedule: Schedule, stores: Stores | None
) -> RowLabels | None:
    """`labels_of` by source; None where all labels of all count, or where one is unprepared."""
    found = [None if stores is None else stores[name] for name in schedule.source_names]
    known = [store for store in found if store is not None]
    if len(known) < len(found) or not any(store.masked for store in known):
        return None
    named = zip(schedule.source_names, known, strict=True)
    return {name: labels_of(store, config) for name, store in named}


def target_shares(
    entries: Sequence[Entry], target: str, weights: Mapping[str, float]
) -> tuple[float, float] | None:
    """The target's shares of rows and of the loss' weight in some entries of a ledger.

    None where nothing is drawn or nobody counted labels.
    """
    if any(entry.supervised is None for entry in entries):
        return None
    rows = {entry.source: entry.sequences for entry in entries}
    loss = {entry.source: weights[entry.source] * (entry.supervised or 0) for entry in entries}
    if not sum(rows.values()) or not sum(loss.values()):
        return None
    return rows[target] / sum(rows.values()), loss[target] / sum(loss.values())
