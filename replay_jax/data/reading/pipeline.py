"""From stores, views and a schedule to batches, as Grain datasets whose element is a step.

Batch t is a pure function of the parts and of t: training, each host, evaluation and anybody's own
trainer read it alike, from any step on and in any order. A step's rows are drawn and gathered at
once; the tests hold every batch equal to the rows that Grain's own selection maps would read.

Shapes: B sequences of the global batch, or as many of them as are asked for; L = seq_len labels per
sequence.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import grain
import numpy as np

from replay_jax.data.reading.batch_rows import ALL_ROWS, BatchRows, row_numbers
from replay_jax.data.reading.views import SourceView, view_rows
from replay_jax.data.tokens.store import TokenRows, TokenStore
from replay_jax.errors import UserError
from replay_jax.schedule.mixture import StepDraws, draw_numbers, step_draws
from replay_jax.schedule.stages import Schedule

Batch = dict[str, np.ndarray]


def run_dataset(
    *,
    stores: Mapping[str, TokenStore],
    views: Mapping[str, SourceView],
    schedule: Schedule,
    document_mask: bool,
    loss_weight_by_source: Mapping[str, float],
    rows: BatchRows = ALL_ROWS,
) -> grain.MapDataset[Batch]:
    """The exact mixture of a run: item t is the batch of step t, and the length is its steps.

    Args:
        stores: prepared text, by name; those that the schedule draws from must be there.
        views: which rows of a source are drawn, and in which order.
        schedule: how many sequences of which source in which step.
        document_mask: whether batches say which document a token belongs to.
        loss_weight_by_source: of the labels; a source without an entry weighs 1.
        rows: which rows of every batch to read; a host may take its own alone. Numbers beyond a
            smaller batch of another stage are an IndexError where that is read.

    Returns:
        batches of inputs and labels, int32 [B, L]; loss_weights, float32 [B, L]; source, int32
        [B]: its place in `schedule.source_names`; row, int64 [B]: which row of the training split;
        where a source that is drawn says which tokens count, loss_mask, bool [B, L]: which labels
        do (the weights of the others are 0); and with `document_mask` segments, int32 [B, L]: the
        number of the document each input token belongs to, from 1 in every row. Like every map of
        Grain's it starts again past its end. It can be pickled, without the tokens.

    Raises UserError where stores, views and schedule do not fit together.
    """
    unknown = sorted(set(loss_weight_by_source) - set(schedule.source_names))
    if unknown:
        raise UserError(
            f"loss weight for source {unknown[0]!r}, but the schedule has "
            f"{', '.join(schedule.source_names)}"
        )
    drawn = _checked_rows(stores, views, schedule)
    weights = {**dict.fromkeys(schedule.source_names, 1.0), **loss_weight_by_source}
    source = _RunSteps(
        draws=step_draws(schedule),
        chosen=rows,
        rows=tuple(drawn.get(name) for name in schedule.source_names),
        views=tuple(views[name] if name in drawn else None for name in schedule.source_names),
        weights=np.array([weights[name] for name in schedule.source_names], np.float32),
        document_mask=document_mask,
    )
    return grain.MapDataset.source(source)


def held_out_dataset(
    store: TokenStore,
    *,
    seq_len: int,
    sequences: int,
    batch_size: int,
    document_mask: bool,
    source: int = 0,
    rows: BatchRows = ALL_ROWS,
) -> grain.MapDataset[Batch]:
    """The fixed held-out rows in batches like those of `run_dataset`, with `label_bytes`.

    label_bytes int64 [B]: UTF-8 bytes that the row's labels stand for (end-of-text: none). Labels
    that do not count in the loss have weight 0 and no bytes here either. The
    last batch is padded: padding has row -1, loss weight 0 and no bytes. `source` is the number
    to fill in. Whichever rows are asked for, there are equally many batches.

    Raises UserError where the split has too few rows.
    """
    order = evaluation_rows(store, seq_len=seq_len, sequences=sequences)
    padded = np.full((-(-sequences // batch_size), batch_size), -1, np.int64)
    padded.reshape(-1)[:sequences] = order
    chosen = padded[:, row_numbers(rows, batch_size)]
    return grain.MapDataset.source(
        _HeldOutSteps(store.rows("validation", seq_len), chosen, source, document_mask)
    )


def read_ahead(
    dataset: grain.MapDataset[Batch], *, start: int, stop: int, threads: int
) -> Iterator[Batch]:
    """The batches of the steps [start, stop), read ahead by so many threads.

    With 0 threads a batch is read when it is asked for. No state is kept: start and stop anywhere.
    Raises ValueError for steps that the dataset does not have.
    """
    if not 0 <= start <= stop <= len(dataset):
        raise ValueError(f"steps [{start}, {stop}) are not within [0, {len(dataset)})")
    steps = dataset.slice(slice(start, stop))
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(steps.to_iter_dataset(ahead))


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


@dataclass(frozen=True)
class _RunSteps:
    """Random access to what is read for every step; `rows` and `views` by source number.

    A source that the schedule never draws has neither.
    """

    draws: StepDraws
    chosen: BatchRows
    rows: tuple[TokenRows | None, ...]
    views: tuple[SourceView | None, ...]
    weights: np.ndarray
    document_mask: bool

    def __len__(self) -> int:
        return self.draws.steps.total

    def __getitem__(self, step: int) -> Batch:
        pattern = self.draws.pattern(step)
        draws = draw_numbers(pattern, first=self.draws.first[step])[self.chosen]
        sources = pattern[self.chosen].astype(np.int32)
        seq_len = next(rows.seq_len for rows in self.rows if rows is not None)
        tokens = np.empty((len(sources), seq_len + 1), np.int32)
        segments = np.empty((len(sources), seq_len), np.int32) if self.document_mask else None
        masked = any(rows is not None and rows.store.masked for rows in self.rows)
        loss_mask = np.empty((len(sources), seq_len), bool) if masked else None
        row = np.empty(len(sources), np.int64)
        for source in np.unique(sources).tolist():
            rows, view = self.rows[source], self.views[source]
            assert rows is not None and view is not None
            ours = np.flatnonzero(sources == source)
            row[ours] = view_rows(view, draws[ours])
            tokens[ours] = rows.gather(row[ours])
            if loss_mask is not None:
                counted = rows.counted(row[ours])
                loss_mask[ours] = True if counted is None else counted
            if segments is not None:
                segments[ours] = rows.segments(row[ours])
        batch = _batch(tokens, self.weights[sources], sources, row, segments)
        return batch if loss_mask is None else _masked(batch, loss_mask)


@dataclass(frozen=True)
class _HeldOutSteps:
    """Random access to batches of held-out rows, int64 [batches, B]; -1 is padding."""

    rows: TokenRows
    chosen: np.ndarray
    source: int
    document_mask: bool

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, step: int) -> Batch:
        row = self.chosen[step]
        # Padding repeats row 0: any valid tokens do, since their weight is 0.
        filled = np.maximum(row, 0)
        batch = _batch(
            self.rows.gather(filled),
            (row >= 0).astype(np.float32),
            np.full(len(row), self.source, np.int32),
            row,
            self.rows.segments(filled) if self.document_mask else None,
        )
        counted = self.rows.counted(filled)
        if counted is not None:
            batch["loss_weights"] *= counted
        batch["label_bytes"] = np.where(row >= 0, self.rows.label_bytes(filled), 0)
        return batch


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


def _masked(batch: Batch, loss_mask: np.ndarray) -> Batch:
    """The batch with no weight on what does not count."""
    weights = np.where(loss_mask, batch["loss_weights"], np.float32(0))
    return {**batch, "loss_weights": weights, "loss_mask": loss_mask}


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
