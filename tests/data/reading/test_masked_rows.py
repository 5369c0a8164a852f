"""Batches of sources of which not all tokens count: weights, whole documents, held-out sums."""

from pathlib import Path

import numpy as np
import pytest

from replay_jax.data.ledger.compared import check_spans, compare, realised_ledger
from replay_jax.data.ledger.counted import (
    RealisedCounter,
    Span,
    batch_checksum,
    supervised_labels,
)
from replay_jax.data.ledger.planned import Ledger, plan_ledger
from replay_jax.data.ledger.tokens import check_tokens
from replay_jax.data.reading.held_out_documents import held_out_documents
from replay_jax.data.reading.pipeline import Batch, held_out_dataset, run_dataset
from replay_jax.data.reading.views import SourceView
from replay_jax.data.sources.documents import Document
from replay_jax.data.tokens.manifest import SPLITS
from replay_jax.data.tokens.store import TokenStore
from replay_jax.data.tokens.tokenizer import byte_tokenizer
from replay_jax.data.tokens.writer import ShardWriter, StoreFacts, write_store
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.protocols import two_stage
from replay_jax.schedule.stages import Schedule

SEQ_LEN, BATCH = 7, 4
# Document n has ids n + 1 alone, LENGTHS[n] of them, of which the last COUNTS[n] count.
LENGTHS, COUNTS = (3, 5, 8, 2, 2, 4, 6, 7), (1, 4, 2, 1, 1, 3, 2, 6)
# By hand: which documents rows of 8 tokens hold.
ROWS = ((0, 1), (2,), (3, 4, 5), (6,), (7,))


def masked_store(folder: Path) -> TokenStore:
    shard = folder / "masked.shard"
    shard.mkdir()
    writer = ShardWriter(shard, byte_tokenizer())
    for held_out in (False, True):
        found = []
        for n, (length, count) in enumerate(zip(LENGTHS, COUNTS, strict=True)):
            loss = np.array([0] * (length - count) + [1] * count, np.uint8)
            ids = np.full(length, n + 1, np.uint32)
            found.append((Document("x", length, 10 * n + held_out, held_out), ids, loss))
        writer.append_marked(found[:3])
        writer.append_marked(found[3:])
    writer.finish("key")
    facts = StoreFacts("target", "conversations", "identity", "inputs", masked=True)
    write_store(folder / "masked", facts, [shard], byte_tokenizer())
    return TokenStore.open(folder / "masked")


def plain_store(folder: Path) -> TokenStore:
    shard = folder / "plain.shard"
    shard.mkdir()
    writer = ShardWriter(shard, byte_tokenizer())
    for held_out in (False, True):
        document = Document("x", 300, held_out, held_out)
        writer.append([(document, True)], [np.arange(300) % 100 + 100])
    writer.finish("key")
    write_store(
        folder / "plain", StoreFacts("generic", "text", "i", "i"), [shard], byte_tokenizer()
    )
    return TokenStore.open(folder / "plain")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    folder = tmp_path_factory.mktemp("masked")
    return {"generic": plain_store(folder), "target": masked_store(folder)}


def views_of(stores: dict[str, TokenStore]) -> dict[str, SourceView]:
    return {
        name: SourceView(
            source=name,
            fingerprint=store.fingerprint,
            seq_len=SEQ_LEN,
            pool_rows=len(store.rows("train", SEQ_LEN)),
            budget_rows=3 if name == "target" else None,
            seed=5,
            repeat=name == "target",
        )
        for name, store in stores.items()
    }


def replay() -> Schedule:
    return two_stage(
        total_steps=6,
        batch_size=BATCH,
        target_sequences=3,
        target_epochs=3,
        replay_fraction=0.25,
        stage2_allocation=0.75,
        learning_rate=LearningRate(1e-3, "cosine", 0.1, None, 0.0),
    )


def batches_of(stores: dict[str, TokenStore], **weights: float) -> list[Batch]:
    return list(
        run_dataset(
            stores=stores,
            views=views_of(stores),
            schedule=replay(),
            document_mask=True,
            loss_weight_by_source=weights,
        )
    )


def test_rows_are_the_whole_documents_that_were_worked_out(stores: dict[str, TokenStore]) -> None:
    rows = stores["target"].rows("train", SEQ_LEN)
    assert len(rows) == len(ROWS) == stores["target"].row_count("train", SEQ_LEN)
    eos = stores["target"].manifest.eos_id
    numbers = np.arange(len(ROWS))
    tokens, counted, segments = rows.gather(numbers), rows.counted(numbers), rows.segments(numbers)
    assert counted is not None
    for row, documents in enumerate(ROWS):
        text = [n + 1 for n in documents for _ in range(LENGTHS[n])]
        loss = [j >= LENGTHS[n] - COUNTS[n] for n in documents for j in range(LENGTHS[n])]
        missing = SEQ_LEN + 1 - len(text)
        assert tokens[row].tolist() == text + [eos] * missing == rows[row].tolist()
        assert counted[row].tolist() == (loss + [False] * missing)[1:]
        own = [place + 1 for place, n in enumerate(documents) for _ in range(LENGTHS[n])]
        assert segments[row].tolist() == (own + [len(documents) + 1] * missing)[:SEQ_LEN]
    expected = [sum(COUNTS[n] for n in documents) for documents in ROWS]
    found = rows.supervised()
    assert found is not None and found.tolist() == expected == counted.sum(axis=1).tolist()
    supervised = stores["target"].manifest.supervised
    assert supervised == dict.fromkeys(SPLITS, sum(COUNTS))


def test_batches_weigh_what_counts_and_all_of_replayed_text(stores: dict[str, TokenStore]) -> None:
    rows = stores["target"].rows("train", SEQ_LEN)
    for batch, doubled in zip(batches_of(stores), batches_of(stores, target=2.0), strict=True):
        target = batch["source"] == 1
        counted = rows.counted(batch["row"][target])
        assert counted is not None
        assert (batch["loss_weights"][~target] == 1).all() and batch["loss_mask"][~target].all()
        assert np.array_equal(batch["loss_weights"][target], counted.astype(np.float32))
        assert np.array_equal(batch["loss_mask"][target], counted)
        scale = np.where(target, 2, 1)[:, None]
        assert np.array_equal(doubled["loss_weights"], batch["loss_weights"] * scale)
        # No row is without a label that counts, so no batch is.
        assert batch["loss_mask"].any(axis=1).all()
    plain = {**stores, "target": stores["generic"]}
    assert all("loss_mask" not in batch for batch in batches_of(plain))


def test_held_out_rows_count_what_counts(stores: dict[str, TokenStore]) -> None:
    options: dict = {"seq_len": SEQ_LEN, "sequences": 5, "document_mask": True}
    (batch,) = held_out_dataset(stores["target"], batch_size=6, **options)
    expected = [sum(COUNTS[n] for n in ROWS[row]) for row in batch["row"][:5].tolist()]
    assert batch["loss_weights"].sum(axis=1).tolist() == [*expected, 0]
    assert batch["label_bytes"].tolist() == [*expected, 0]  # a byte for each token
    documents = held_out_documents(stores["target"], seq_len=SEQ_LEN, sequences=5)
    middles = [documents.document[number] for number in documents.of_row.tolist()]
    for row, document in zip(batch["row"].tolist(), middles, strict=False):
        assert document in ROWS[row]


def counted_span(stores: dict[str, TokenStore], batches: list[Batch]) -> Span:
    counter = RealisedCounter(
        source_names=("generic", "target"),
        views=views_of(stores),
        batch_size=BATCH,
        start_step=0,
        first_sequence=0,
        cuts=replay().stage_starts,
    )
    for step, batch in enumerate(batches):
        counter.add(
            step,
            source=batch["source"],
            row=batch["row"],
            tokens=batch_checksum(batch),
            supervised=supervised_labels(batch),
        )
    return Span.from_json(counter.span().to_json())


def test_ledgers_count_what_counts_twice(stores: dict[str, TokenStore]) -> None:
    views, schedule, batches = views_of(stores), replay(), batches_of(stores)
    labels = {"generic": None, "target": stores["target"].rows("train", SEQ_LEN).supervised()}
    planned = plan_ledger(schedule, views, labels)
    span = counted_span(stores, batches)
    counted = realised_ledger([span], schedule, views)
    assert compare(planned, counted) == [] == check_spans([span], schedule, views)
    sums = {0: 0, 1: 0}
    for batch in batches:
        for source, row in zip(batch["source"].tolist(), batch["loss_mask"], strict=True):
            sums[source] += int(row.sum())
    for ledger in (planned, counted):
        assert [entry.supervised for entry in ledger.totals] == [sums[0], sums[1]]
        generic, target = ledger.totals
        assert generic.supervised == generic.tokens and target.supervised != target.tokens
        stages = [sum(entry.supervised or 0 for entry in stage.entries) for stage in ledger.stages]
        assert sum(stages) == sums[0] + sums[1]
        assert Ledger.from_json(ledger.to_json()) == ledger
    assert "supervised" in planned.render() and f"{sums[1]:,}" in planned.render()
    plain = plan_ledger(schedule, views)
    assert "supervised" not in plain.render() and "supervised" not in str(plain.to_json())
    # A label more or less is a difference, in the counts and in the checksum of the tokens.
    edited = {**batches[2], "loss_mask": ~batches[2]["loss_mask"]}
    wrong = counted_span(stores, [*batches[:2], edited, *batches[3:]])
    assert any(
        "supervised" in line for line in compare(planned, realised_ledger([wrong], schedule, views))
    )
    assert check_tokens([span], schedule, views, stores) == []
    assert len(check_tokens([wrong], schedule, views, stores)) == 1
