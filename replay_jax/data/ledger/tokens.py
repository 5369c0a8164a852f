"""Whether the tokens that training was given are those of the stores, batch by batch."""

from collections.abc import Mapping, Sequence

import numpy as np

from replay_jax.data.ledger.compared import check_size, planned_rows
from replay_jax.data.ledger.counted import CHAIN_START, Span, batch_checksum, tokens_chained
from replay_jax.data.reading.views import SourceView
from replay_jax.data.tokens.store import TokenRows, TokenStore
from replay_jax.schedule.mixture import step_draws
from replay_jax.schedule.stages import Schedule


def check_tokens(
    spans: Sequence[Span],
    schedule: Schedule,
    views: Mapping[str, SourceView],
    stores: Mapping[str, TokenStore],
) -> list[str]:
    """Returns the spans whose tokens are not those of the stores, in words; none means all are.

    Reads every planned row of every span, without the pipeline that training reads through. Spans
    that were counted without their tokens are passed over. Raises UserError for a store that has no
    row, IndexError for one that has too few, ValueError for a span of another batch size.
    """
    names, draws = schedule.source_names, step_draws(schedule)
    drawn = [name for name in names if schedule.sequences(name)]
    rows = {names.index(name): stores[name].rows("train", views[name].seq_len) for name in drawn}
    differences = []
    for span in spans:
        if span.tokens is None:
            continue
        check_size(span, draws.steps)
        source, row = planned_rows(draws, names, views, start=span.start_step, stop=span.stop_step)
        chosen = span.rows_of_batch()
        found = _chain(source[:, chosen], row[:, chosen], rows)
        if found != span.tokens:
            blocks = ", ".join(f"{first} to {last - 1}" for first, last in span.batch_rows)
            differences.append(
                f"steps {span.start_step} to {span.stop_step - 1}, rows {blocks} of each batch: "
                f"the tokens consumed (digest {span.tokens}) are not those of the stores ({found})"
            )
    return differences


def _chain(sources: np.ndarray, rows: np.ndarray, stores: Mapping[int, TokenRows]) -> str:
    """The chain over consecutive batches, from their source numbers and rows [steps, rows]."""
    chain = CHAIN_START
    masked = any(rows.store.masked for rows in stores.values())
    for source, row in zip(sources, rows, strict=True):
        numbers = np.unique(source).tolist()
        tokens = np.empty((len(row), stores[numbers[0]].seq_len + 1), np.int32)
        loss_mask = np.ones((len(row), tokens.shape[1] - 1), bool)
        for number in numbers:
            ours = source == number
            tokens[ours] = stores[number].gather(row[ours])
            counted = stores[number].counted(row[ours])
            if counted is not None:
                loss_mask[ours] = counted
        batch = {"inputs": tokens[:, :-1], "labels": tokens[:, 1:]}
        if masked:
            batch["loss_mask"] = loss_mask
        chain = tokens_chained(chain, batch_checksum(batch))
    return chain.hex()
