"""From stores, views and a schedule to batches: batch t is a pure function of these and t.

Shapes: B sequences of the global batch, L = seq_len labels per sequence.

Grain's element is a step: a step's rows are drawn and gathered at once, which gives 125 M tokens
per CPU second against 45 M one row at a time through two selection maps (L = 1024, B = 32, 2 shared
cores, 2026-11-23; tools/bench_data.py prints both).
`run_dataset` is the row-by-row form of the same order, and tests hold the two equal.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grain
import numpy as np

from replay_jax.data.reading.views import SourceView, view_dataset, view_rows
from replay_jax.data.tokens.store import TokenRows, TokenStore
from replay_jax.errors import UserError
from replay_jax.schedule.mixture import ScheduledSelectionMap, StepDraws, draw_numbers, step_draws
from replay_jax.schedule.stages import Schedule

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class StepSource:
    """Random access to the batches of a run: element t is what one host reads for step t.

    rows, views: by source number, None for a source the schedule never draws.
    weights: loss weight per source number. host_index, host_count: which share of each batch.
    """

    draws: StepDraws
    rows: tuple[TokenRows | None, ...]
    views: tuple[SourceView | None, ...]
    weights: tuple[float, ...]
    document_mask: bool
    host_index: int
    host_count: int

    def __len__(self) -> int:
        """Steps in the whole run."""
        return len(self.draws.pattern)

    def __getitem__(self, step: int) -> Batch:
        pattern = self.draws.pattern[step]
        share = len(pattern) // self.host_count
        mine = slice(self.host_index * share, (self.host_index + 1) * share)
        draws = draw_numbers(pattern, first=self.draws.first[step])[mine]
        sources = pattern[mine].astype(np.int32)
        seq_len = next(rows.seq_len for rows in self.rows if rows is not None)
        tokens = np.empty((share, seq_len + 1), np.int32)
        segments = np.empty((share, seq_len), np.int32) if self.document_mask else None
        row = np.empty(share, np.int64)
        for source in np.unique(sources).tolist():
            rows, view = self.rows[source], self.views[source]
            assert rows is not None and view is not None
            chosen = np.flatnonzero(sources == source)
            row[chosen] = view_rows(view, draws[chosen])
            tokens[chosen] = rows.gather(row[chosen])
            if segments is not None:
                segments[chosen] = rows.segments(row[chosen])
        weights = np.array(self.weights, np.float32)[sources]
        return _batch(tokens, weights, sources, row, segments)


def train_batches(
    *,
    stores: Mapping[str, TokenStore],
    views: Mapping[str, SourceView],
    schedule: Schedule,
    document_mask: bool,
    loss_weight_by_source: Mapping[str, float],
    start_step: int,
    stop_step: int,
    read_threads: int,
    host_index: int = 0,
    host_count: int = 1,
) -> Iterator[Batch]:
    """Batches of the steps [start_step, stop_step), read ahead by `read_threads` threads.

    A batch holds inputs and labels int32 [B, L], loss_weights float32 [B, L], source int32 [B],
    row int64 [B] (for the host only) and, with `document_mask`, segments int32 [B, L]: the
    number of the document each input token belongs to. On several hosts, host h gets rows
    [h B / H, (h + 1) B / H) of each. No state is kept: start anywhere, stop anywhere.
    A source without an entry in `loss_weight_by_source` weighs 1. With 0 threads a batch is read
    when it is asked for.

    Raises UserError where stores, views and schedule do not fit together.
    """
    source = step_source(
        stores=stores,
        views=views,
        schedule=schedule,
        document_mask=document_mask,
        loss_weight_by_source=loss_weight_by_source,
        host_index=host_index,
        host_count=host_count,
    )
    if not 0 <= start_step <= stop_step <= len(source):
        raise ValueError(f"steps [{start_step}, {stop_step}) are not within [0, {len(source)})")
    steps = grain.MapDataset.source(source).slice(slice(start_step, stop_step))
    ahead = grain.ReadOptions(num_threads=read_threads, prefetch_buffer_size=2 * read_threads)
    return iter(steps.to_iter_dataset(ahead))


def step_source(
    *,
    stores: Mapping[str, TokenStore],
    views: Mapping[str, SourceView],
    schedule: Schedule,
    document_mask: bool,
    loss_weight_by_source: Mapping[str, float],
    host_index: int,
    host_count: int,
) -> StepSource:
    """The batches of a run by step number, after checking that all parts fit together."""
    if schedule.batch_size % host_count:
        raise UserError(
            f"a batch of {schedule.batch_size} sequences does not divide over {host_count} hosts"
        )
    unknown = sorted(set(loss_weight_by_source) - set(schedule.source_names))
    if unknown:
        raise UserError(
            f"loss weight for source {unknown[0]!r}, but the schedule has "
            f"{', '.join(schedule.source_names)}"
        )
    rows = _checked_rows(stores, views, schedule)
    return StepSource(
        draws=step_draws(schedule),
        rows=tuple(rows.get(name) for name in schedule.source_names),
        views=tuple(views[name] if name in rows else None for name in schedule.source_names),
        weights=tuple(
            float(loss_weight_by_source[name]) if name in loss_weight_by_source else 1.0
            for name in schedule.source_names
        ),
        document_mask=document_mask,
        host_index=host_index,
        host_count=host_count,
    )


def run_dataset(
    stores: Mapping[str, TokenStore], views: Mapping[str, SourceView], schedule: Schedule
) -> grain.MapDataset:
    """The whole run as a Grain dataset of single rows, int32 [L + 1], in training order.

    For looking at a run and for one's own Grain transformations; slower than `train_batches`.
    """
    rows = _checked_rows(stores, views, schedule)
    # A source that is never drawn still needs a place, so that source numbers stay as they are.
    datasets = [
        view_dataset(views[name], cast(Sequence[Any], rows[name]))
        if name in rows
        else grain.MapDataset.source([()])
        for name in schedule.source_names
    ]
    return grain.MapDataset.select_from_datasets(datasets, ScheduledSelectionMap(schedule))


def evaluation_rows(store: TokenStore, *, seq_len: int, sequences: int) -> np.ndarray:
    """int64 [sequences]: the fixed held-out rows, first of one permutation of the validation split.

    A larger set contains a smaller one. Raises UserError where the split has fewer rows.
    """
    pool = len(store.rows("validation", seq_len))
    if not 1 <= sequences <= pool:
        raise UserError(
            f"evaluation on {sequences} sequences of {seq_len} tokens, but the validation split of "
            f"{store.manifest.source!r} has {pool}; set evaluation.sequences to at most {pool}, "
            "or hold out more"
        )
    view = SourceView(
        source=store.manifest.source,
        fingerprint=store.fingerprint,
        seq_len=seq_len,
        pool_rows=pool,
        budget_rows=None,
        seed=0,
        repeat=False,
    )
    return view_rows(view, np.arange(sequences))


def evaluation_batches(
    store: TokenStore,
    *,
    seq_len: int,
    sequences: int,
    batch_size: int,
    document_mask: bool,
    source: int = 0,
    host_index: int = 0,
    host_count: int = 1,
) -> Iterator[Batch]:
    """The fixed held-out rows in batches like those of `train_batches`, with `label_bytes`.

    label_bytes int64 [B]: UTF-8 bytes that the row's labels stand for (end-of-text: none). The
    last batch is padded: padding has row -1, loss weight 0 and no bytes. `source` is the number
    to fill in. Every host gets the same number of batches.
    """
    if batch_size % host_count:
        raise UserError(
            f"an evaluation batch of {batch_size} sequences does not divide over {host_count} hosts"
        )
    rows = store.rows("validation", seq_len)
    order = evaluation_rows(store, seq_len=seq_len, sequences=sequences)
    share = batch_size // host_count
    for start in range(host_index * share, -(-sequences // batch_size) * batch_size, batch_size):
        real = order[start : start + share]
        row = np.full(share, -1, np.int64)
        row[: len(real)] = real
        # Padding repeats row 0: any valid tokens do, since their weight is 0.
        filled = np.maximum(row, 0)
        batch = _batch(
            rows.gather(filled),
            (row >= 0).astype(np.float32),
            np.full(share, source, np.int32),
            row,
            rows.segments(filled) if document_mask else None,
        )
        batch["label_bytes"] = np.where(row >= 0, rows.label_bytes(filled), 0)
        yield batch


def _batch(
    tokens: np.ndarray,
    weights: np.ndarray,
    source: np.ndarray,
    row: np.ndarray,
    segments: np.ndarray | None,
) -> Batch:
    batch = {
        "inputs": np.ascontiguousarray(tokens[:, :-1]),
        "labels": np.ascontiguousarray(tokens[:, 1:]),
        "loss_weights": np.repeat(weights[:, None], tokens.shape[1] - 1, axis=1),
        "source": source,
        "row": row,
    }
    return batch if segments is None else {**batch, "segments": segments}


def _checked_rows(
    stores: Mapping[str, TokenStore], views: Mapping[str, SourceView], schedule: Schedule
) -> dict[str, TokenRows]:
    """Rows of every source that the schedule draws from, if stores, views and schedule agree."""
    rows: dict[str, TokenRows] = {}
    for name in schedule.source_names:
        drawn = schedule.sequences(name)
        if not drawn:
            continue
        if name not in stores or name not in views:
            raise UserError(f"the schedule draws from {name!r}, which has no store or no view")
        store, view = stores[name], views[name]
        rows[name] = store.rows("train", view.seq_len)
        if (view.fingerprint, view.pool_rows) != (store.fingerprint, len(rows[name])):
            raise UserError(
                f"the view of {name!r} is of {view.pool_rows} rows of store "
                f"{view.fingerprint[:12]}…, but {store.path} has {len(rows[name])} rows and is "
                f"{store.fingerprint[:12]}…; plan the run again with this store"
            )
        view.check_draws(drawn)
        _check_alike(name, rows[name], next(iter(rows.values())))
    return rows


def _check_alike(name: str, rows: TokenRows, first: TokenRows) -> None:
    if rows.seq_len != first.seq_len:
        raise UserError(
            f"{name!r} has rows of {rows.seq_len} tokens, {first.store.manifest.source!r} of "
            f"{first.seq_len}; one run has one seq_len"
        )
    if rows.store.manifest.tokenizer != first.store.manifest.tokenizer:
        raise UserError(
            f"{rows.store.path} was prepared with another tokenizer than {first.store.path}; "
            "prepare both with one"
        )
