"""Whether the tokens that training was given are those of the stores, batch by batch."""

from collections.abc import Mapping, Sequence

from replay_jax.data.ledger.counted import CHAIN_START, Span, batch_checksum, tokens_chained
from replay_jax.data.reading.pipeline import run_dataset
from replay_jax.data.reading.views import SourceView
from replay_jax.data.tokens.store import TokenStore
from replay_jax.schedule.stages import Schedule


def check_tokens(
    spans: Sequence[Span],
    schedule: Schedule,
    views: Mapping[str, SourceView],
    stores: Mapping[str, TokenStore],
) -> list[str]:
    """Returns the spans whose tokens are not those of the stores, in words; none means all are.

    Reads every batch of every span anew, as training does. Spans that were counted without their
    tokens are passed over. Raises UserError where stores, views and schedule do not fit together.
    """
    differences = []
    for span in spans:
        if span.tokens is None:
            continue
        found = _read_again(span, schedule, views, stores)
        if found != span.tokens:
            blocks = ", ".join(f"{first} to {last - 1}" for first, last in span.batch_rows)
            differences.append(
                f"steps {span.start_step} to {span.stop_step - 1}, rows {blocks} of each batch: "
                f"the tokens consumed (digest {span.tokens}) are not those of the stores ({found})"
            )
    return differences


def _read_again(
    span: Span,
    schedule: Schedule,
    views: Mapping[str, SourceView],
    stores: Mapping[str, TokenStore],
) -> str:
    """The chain over the tokens of a span's batches, read from the stores."""
    batches = run_dataset(
        stores=stores,
        views=views,
        schedule=schedule,
        document_mask=False,
        loss_weight_by_source={},
        rows=span.rows_of_batch(),
    )
    chain = CHAIN_START
    for step in range(span.start_step, span.stop_step):
        chain = tokens_chained(chain, batch_checksum(batches[step]))
    return chain.hex()
