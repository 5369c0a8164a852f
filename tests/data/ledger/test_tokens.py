"""The tokens of every batch are part of what is counted, and are found again in the stores."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_store import make_store

from replay_jax.data.ledger.counted import RealisedCounter, Span, batch_checksum
from replay_jax.data.ledger.tokens import check_tokens
from replay_jax.data.reading.pipeline import run_dataset
from replay_jax.data.reading.views import SourceView
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.two_stage import two_stage

SEQ_LEN, BATCH = 8, 4
RATE = LearningRate(1e-3, "linear", 0.0, 0.1, 0.0)
PLAN = two_stage(
    total_steps=6,
    batch_size=BATCH,
    target_sequences=3,
    target_epochs=2.0,
    learning_rate=RATE,
    replay_fraction=0.5,
    stage2_allocation=1.0,
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    numbers = np.random.default_rng(0)
    return {
        name: make_store(
            folder / name,
            [numbers.integers(0, 299, 40).tolist() for _ in range(documents)],
            [[1] * 40],
        )
        for name, documents in (("generic", 10), ("target", 3))
    }


@pytest.fixture(scope="module")
def views(stores):
    return {
        name: SourceView(
            name, store.fingerprint, SEQ_LEN, store.row_count("train", SEQ_LEN), budget, 1, True
        )
        for (name, store), budget in zip(stores.items(), (None, 3), strict=True)
    }


def counted(stores, views, *, spoil=lambda step, batch: None, start=0, stop=6, rows=slice(None)):
    """The span of what training is given, if every batch is spoilt on its way."""
    batches = run_dataset(
        stores=stores, views=views, schedule=PLAN, document_mask=False,
        loss_weight_by_source={}, rows=rows,
    )  # fmt: skip
    counter = RealisedCounter(
        source_names=PLAN.source_names, views=views, batch_size=BATCH, start_step=start,
        first_sequence=start * BATCH, rows=rows,
    )  # fmt: skip
    for step in range(start, stop):
        batch = batches[step]
        spoil(step, batch)
        counter.add(step, source=batch["source"], row=batch["row"], tokens=batch_checksum(batch))
    return Span.from_json(json.loads(json.dumps(counter.span().to_json())))


def test_what_was_trained_on_is_found_again(stores, views):
    spans = [counted(stores, views, stop=2), counted(stores, views, start=2)]
    assert check_tokens(spans, PLAN, views, stores) == []
    assert spans[0].tokens != spans[1].tokens


def test_every_host_counts_its_own_rows(stores, views):
    hosts = [counted(stores, views, rows=rows) for rows in (slice(0, 2), np.array([2, 3]))]
    assert hosts[0].tokens != hosts[1].tokens
    assert check_tokens(hosts, PLAN, views, stores) == []


@pytest.mark.parametrize("field", ["inputs", "labels"])
def test_a_target_of_zeros_is_a_difference(stores, views, field):
    """The rows are those planned, so only their tokens tell."""

    def zero_target(step, batch):
        batch[field][batch["source"] == 1] = 0

    (line,) = check_tokens([counted(stores, views, spoil=zero_target)], PLAN, views, stores)
    assert line.startswith("steps 0 to 5, rows 0 to 3 of each batch: the tokens consumed")


def test_one_token_of_one_label_is_a_difference(stores, views):
    def one_more(step, batch):
        if step == 3:
            batch["labels"][2, 5] += 1

    spans = [counted(stores, views, spoil=one_more, start=n, stop=n + 1) for n in range(6)]
    (line,) = check_tokens(spans, PLAN, views, stores)
    assert line.startswith("steps 3 to 3")


def test_spans_of_older_versions_are_read_and_passed_over(stores, views):
    plain = counted(stores, views).to_json()
    del plain["tokens"]
    old = Span.from_json(plain)
    assert old == dataclasses.replace(counted(stores, views), tokens=None)
    assert check_tokens([old], PLAN, views, stores) == []
