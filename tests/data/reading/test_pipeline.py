"""Batches: where each token comes from, purity, resuming, hosts, and that nothing leaks.

Every token's value says its source, split and place: generic training tokens count from 0, target
ones from a million, and held-out ones start half a million above their source.
"""

import pickle
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import grain
import numpy as np
import pytest
from grain_rows import run_rows

from replay_jax.data.reading.held_out_documents import held_out_documents
from replay_jax.data.reading.pipeline import (
    Batch,
    evaluation_rows,
    held_out_dataset,
    read_ahead,
    run_dataset,
)
from replay_jax.data.reading.views import SourceView
from replay_jax.data.sources.documents import Document
from replay_jax.data.tokens.store import TokenStore
from replay_jax.data.tokens.tokenizer import Tokenizer
from replay_jax.data.tokens.writer import StoreWriter
from replay_jax.errors import UserError
from replay_jax.schedule.learning_rate import LearningRate
from replay_jax.schedule.protocols import two_stage
from replay_jax.schedule.stages import Requested, Schedule, Stage

SEQ_LEN = 6
DOCUMENT = 10  # tokens, the end of text included
HELD_OUT = 500_000
BASES = {"generic": 0, "target": 1_000_000, "third": 2_000_000}
EOS = 3_000_000
BATCH = 8


def make_store(path: Path, base: int, *, documents: int, tokenizer: str = "counting") -> TokenStore:
    """Documents of consecutive values; as many held out as trained on."""
    lengths = np.ones(EOS + 1, np.uint16)
    lengths[EOS] = 0
    writer = StoreWriter(path, Tokenizer("bytes", EOS + 1, None, EOS, tokenizer, lengths, None))
    for held_out in (False, True):
        for i in range(documents):
            first = base + held_out * HELD_OUT + i * DOCUMENT
            ids = np.arange(first, first + DOCUMENT - 1, dtype=np.uint32)
            document = Document("x", DOCUMENT - 1, i, held_out)
            writer.append([(document, True)], [ids])
    writer.finish(source=path.name, kind="text", identity="", inputs="")
    return TokenStore.open(path)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TokenStore]:
    folder = tmp_path_factory.mktemp("stores")
    sizes = {"generic": 200, "target": 40, "third": 30}
    return {
        name: make_store(folder / name, base, documents=sizes[name]) for name, base in BASES.items()
    }


def make_views(stores: Mapping[str, TokenStore], target_rows: int, seed: int = 3) -> dict:
    return {
        name: SourceView(
            source=name,
            fingerprint=store.fingerprint,
            seq_len=SEQ_LEN,
            pool_rows=len(store.rows("train", SEQ_LEN)),
            budget_rows=target_rows if name == "target" else None,
            seed=seed,
            repeat=name == "target",
        )
        for name, store in stores.items()
    }


RATE = LearningRate(1e-3, "cosine", 0.1, None, 0.0)


def replay(replay_fraction: float = 0.25, epochs: int = 3) -> Schedule:
    return two_stage(
        total_steps=10,
        batch_size=BATCH,
        target_sequences=7,
        target_epochs=epochs,
        replay_fraction=replay_fraction,
        stage2_allocation=0.75,
        learning_rate=RATE,
    )


def run(stores: Mapping[str, TokenStore], schedule: Schedule, /, **changes: object) -> list[Batch]:
    values: dict = {
        "stores": stores,
        "views": make_views(stores, 7),
        "schedule": schedule,
        "document_mask": False,
        "loss_weight_by_source": {},
        **changes,
    }
    return list(run_dataset(**values))


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert one[key].dtype == other[key].dtype
            np.testing.assert_array_equal(one[key], other[key])


def stream_of(base: int, row: int) -> list[int]:
    """The tokens of a row, from the values alone."""
    places = range(row * SEQ_LEN, (row + 1) * SEQ_LEN + 1)
    return [EOS if p % DOCUMENT == DOCUMENT - 1 else base + p for p in places]


@pytest.mark.parametrize("replay_fraction", [0.0, 0.25, 0.75])
def test_every_token_is_the_one_its_source_and_row_say(
    stores: dict[str, TokenStore], replay_fraction: float
) -> None:
    schedule = replay(replay_fraction)
    drawn: Counter[str] = Counter()
    for batch in run(stores, schedule):
        assert batch["inputs"].shape == batch["labels"].shape == (BATCH, SEQ_LEN)
        assert batch["inputs"].dtype == batch["labels"].dtype == np.int32
        assert batch["loss_weights"].dtype == np.float32 and np.all(batch["loss_weights"] == 1)
        for b in range(BATCH):
            name = schedule.source_names[batch["source"][b]]
            tokens = stream_of(BASES[name], int(batch["row"][b]))
            assert batch["inputs"][b].tolist() == tokens[:-1]
            assert batch["labels"][b].tolist() == tokens[1:]
            drawn[name] += 1
    assert drawn == {"target": 21, "generic": 80 - 21}


def test_no_row_outside_the_budget_and_no_held_out_token_ever_appears(
    stores: dict[str, TokenStore],
) -> None:
    counts: Counter[int] = Counter()
    for batch in run(stores, replay(epochs=8)):
        tokens = np.concatenate([batch["inputs"].ravel(), batch["labels"].ravel()])
        assert np.all((tokens == EOS) | (tokens % 1_000_000 < HELD_OUT)), "a held-out token"
        counts.update(batch["row"][batch["source"] == 1].tolist())
    assert len(counts) == 7 and set(counts.values()) == {8}
    held_out = evaluation(stores["target"], sequences=20, batch_size=20)[0]
    assert np.all((held_out["inputs"] == EOS) | (held_out["inputs"] % 1_000_000 >= HELD_OUT))


def test_budgets_are_nested_and_epochs_are_reshuffled(stores: dict[str, TokenStore]) -> None:
    epochs: dict[int, list[list[int]]] = {}
    for budget in (4, 7):
        stage = Stage(3 * budget, (("target", 3 * budget),), RATE, "continue")
        schedule = Schedule(budget, (stage,), Requested("stages"))
        batches = run(stores, schedule, views=make_views(stores, budget))
        epochs[budget] = [batch["row"].tolist() for batch in batches]
    assert all(set(epoch) == set(rows[0]) for rows in epochs.values() for epoch in rows)
    assert set(epochs[4][0]) < set(epochs[7][0])
    assert epochs[7][0] != epochs[7][1], "an epoch repeats the order of the one before"


def test_generic_rows_are_the_same_for_every_replay_fraction(
    stores: dict[str, TokenStore],
) -> None:
    streams = []
    for schedule in (replay(0.0), replay(0.75, epochs=1)):
        batches = run(stores, schedule)
        streams.append([r for x in batches for r in x["row"][x["source"] == 0].tolist()])
    shorter, longer = sorted(streams, key=len)
    assert 0 < len(shorter) < len(longer) and longer[: len(shorter)] == shorter


def dataset(stores: Mapping[str, TokenStore], schedule: Schedule) -> grain.MapDataset[Batch]:
    return run_dataset(
        stores=stores,
        views=make_views(stores, 7),
        schedule=schedule,
        document_mask=True,
        loss_weight_by_source={},
    )


@pytest.mark.parametrize("threads", [0, 2])
def test_starting_at_every_step_gives_the_tail(stores: dict[str, TokenStore], threads: int) -> None:
    batches = dataset(stores, replay())
    whole = list(batches)
    assert len(batches) == len(whole) == 10
    for start in range(11):
        tail = read_ahead(batches, start=start, stop=10, threads=threads)
        assert_same(list(tail), whole[start:])
    assert_same(list(read_ahead(batches, start=3, stop=5, threads=threads)), whole[3:5])
    with pytest.raises(ValueError, match=r"steps \[4, 11\) are not within \[0, 10\)"):
        read_ahead(batches, start=4, stop=11, threads=threads)


def test_a_run_is_a_map_of_grains_like_any_other(stores: dict[str, TokenStore]) -> None:
    batches = dataset(stores, replay())
    assert isinstance(batches, grain.MapDataset)
    sums = batches.seed(0).shuffle().map(lambda batch: int(batch["inputs"].sum()))
    assert sorted(sums) == sorted(int(batch["inputs"].sum()) for batch in batches)
    assert_same([batches[10], batches[7]], [batches[0], batches[7]])


def share(host: int, hosts: int) -> slice:
    """The block of every batch that one of so many hosts reads."""
    size = BATCH // hosts
    return slice(host * size, (host + 1) * size)


def joined(parts: tuple[Batch, ...]) -> Batch:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


@pytest.mark.parametrize("host_count", [1, 2, 4, 8])
def test_hosts_share_each_batch_out_in_order(
    stores: dict[str, TokenStore], host_count: int
) -> None:
    whole = run(stores, replay(), document_mask=True)
    hosts = [
        run(stores, replay(), document_mask=True, rows=share(host, host_count))
        for host in range(host_count)
    ]
    assert_same([joined(parts) for parts in zip(*hosts, strict=True)], whole)


@pytest.mark.parametrize(
    "rows", [slice(1, None, 2), slice(5, 2, -1), np.array([6, 0, 3]), np.array([], np.int64)]
)
def test_any_rows_of_the_batches_are_those_of_the_whole(
    stores: dict[str, TokenStore], rows: slice | np.ndarray
) -> None:
    whole = run(stores, replay(), document_mask=True)
    part = run(stores, replay(), document_mask=True, rows=rows)
    assert_same(part, [{key: value[rows] for key, value in batch.items()} for batch in whole])
    with pytest.raises(IndexError):
        run(stores, replay(), rows=np.array([8]))


def test_batches_are_the_rows_of_grains_own_selection(stores: dict[str, TokenStore]) -> None:
    # Three sources, and a stage that begins inside a batch.
    first = Stage(13, (("generic", 13),), RATE, "continue")
    second = Stage(27, (("generic", 10), ("target", 9), ("third", 8)), None, "continue")
    schedule = Schedule(BATCH, (first, second), Requested("stages"))
    rows = run_rows(stores, make_views(stores, 7), schedule)
    assert len(rows) == 40
    batches = run(stores, schedule)
    tokens = np.concatenate([
        np.concatenate([batch["inputs"], batch["labels"][:, -1:]], axis=1) for batch in batches
    ])  # fmt: skip
    np.testing.assert_array_equal(tokens, np.stack([rows[i] for i in range(40)]))
    assert {int(s) for batch in batches for s in batch["source"]} == {0, 1, 2}


def test_segments_number_the_documents_of_each_row(stores: dict[str, TokenStore]) -> None:
    several = 0
    for batch in run(stores, replay(), document_mask=True):
        assert batch["segments"].dtype == np.int32
        for inputs, segments in zip(batch["inputs"], batch["segments"], strict=True):
            # A new segment begins after each end of text, which belongs to its own document.
            expected = 1 + np.cumsum(np.concatenate([[0], inputs[:-1] == EOS]))
            assert segments.tolist() == expected.tolist()
            several += segments[-1] > 1
    assert several > 10
    assert "segments" not in run(stores, replay())[0]


def test_loss_weights_go_by_source(stores: dict[str, TokenStore]) -> None:
    seen = set()
    for batch in run(stores, replay(), loss_weight_by_source={"target": 2.5}):
        expected = np.where(batch["source"] == 1, np.float32(2.5), np.float32(1))
        assert np.all(batch["loss_weights"] == expected[:, None])
        seen |= set(batch["source"].tolist())
    assert seen == {0, 1}
    with pytest.raises(UserError, match="loss weight for source 'tarGet'"):
        run(stores, replay(), loss_weight_by_source={"tarGet": 2.5})


def test_parts_that_do_not_fit_are_refused(stores: dict[str, TokenStore], tmp_path: Path) -> None:
    schedule, views = replay(), make_views(stores, 7)
    other = make_store(tmp_path / "other", 0, documents=200, tokenizer="another")
    moved = make_store(tmp_path / "moved", 7, documents=200)
    small = make_store(tmp_path / "small", 0, documents=20)
    long = SourceView("generic", stores["generic"].fingerprint, 12, 166, None, 3, False)
    cases: list[tuple[str, dict]] = [
        ("draws from 'target', which has no store", {"stores": {"generic": stores["generic"]}}),
        ("which has no store or no view", {"views": {"target": views["target"]}}),
        ("view of 'generic' is of 333 rows of store", {"stores": {**stores, "generic": moved}}),
        (
            "prepared with another tokenizer",
            {
                "stores": {**stores, "generic": other},
                "views": {**views, **make_views({"generic": other}, 7)},
            },
        ),
        (
            "draws 59 rows of 'generic', which has 33",
            {
                "stores": {**stores, "generic": small},
                "views": {**views, **make_views({"generic": small}, 7)},
            },
        ),
        ("one run has one seq_len", {"views": {**views, "generic": long}}),
    ]
    for message, changes in cases:
        with pytest.raises(UserError, match=message):
            run(stores, schedule, **changes)


def test_a_run_is_pickled_without_its_tokens(stores: dict[str, TokenStore]) -> None:
    batches = dataset(stores, replay())
    copy = pickle.loads(pickle.dumps(batches))
    assert_same(list(copy), list(batches))
    assert len(pickle.dumps(batches)) < 20_000


def evaluation(store: TokenStore, **changes: object) -> list[Batch]:
    values: dict = {
        "seq_len": SEQ_LEN,
        "sequences": 20,
        "batch_size": BATCH,
        "document_mask": True,
        **changes,
    }
    return list(held_out_dataset(store, **values))


def test_evaluation_reads_the_same_held_out_rows_whatever_the_batch(
    stores: dict[str, TokenStore],
) -> None:
    store = stores["target"]
    order = evaluation_rows(store, seq_len=SEQ_LEN, sequences=20).tolist()
    assert len(set(order)) == 20 and order != sorted(order)
    assert evaluation_rows(store, seq_len=SEQ_LEN, sequences=9).tolist() == order[:9]
    for batch_size in (4, 8, 32):
        batches = evaluation(store, batch_size=batch_size)
        assert len(batches) == -(-20 // batch_size)
        row = np.concatenate([batch["row"] for batch in batches])
        assert row[row >= 0].tolist() == order
        weights = np.concatenate([batch["loss_weights"] for batch in batches])
        assert weights.sum() == 20 * SEQ_LEN and np.all((weights[:, 0] == 1) == (row >= 0))
        labels = np.concatenate([batch["labels"] for batch in batches])[row >= 0]
        label_bytes = np.concatenate([batch["label_bytes"] for batch in batches])
        assert label_bytes[row >= 0].tolist() == (labels != EOS).sum(axis=1).tolist()
        assert np.all(label_bytes[row < 0] == 0)
        for r, tokens in zip(order, labels.tolist(), strict=True):
            assert tokens == stream_of(BASES["target"] + HELD_OUT, r)[1:]


def test_evaluation_on_hosts_is_the_whole_shared_out(stores: dict[str, TokenStore]) -> None:
    whole = evaluation(stores["target"], source=1)
    hosts = [evaluation(stores["target"], source=1, rows=share(host, 4)) for host in range(4)]
    assert_same([joined(parts) for parts in zip(*hosts, strict=True)], whole)
    assert all(np.all(batch["source"] == 1) for batch in whole)
    strided = evaluation(stores["target"], source=1, rows=slice(1, None, 3))
    assert_same(strided, [{k: v[1::3] for k, v in batch.items()} for batch in whole])


def test_an_evaluation_larger_than_the_split_is_refused(stores: dict[str, TokenStore]) -> None:
    pool = len(stores["target"].rows("validation", SEQ_LEN))
    assert len(evaluation_rows(stores["target"], seq_len=SEQ_LEN, sequences=pool)) == pool
    with pytest.raises(UserError, match=f"has {pool}; set evaluation.sequences to at most {pool}"):
        evaluation_rows(stores["target"], seq_len=SEQ_LEN, sequences=pool + 1)


def test_a_held_out_row_belongs_to_the_document_of_its_middle_label(stores):
    store, sequences = stores["third"], 20
    found = held_out_documents(store, seq_len=SEQ_LEN, sequences=sequences)
    batches = held_out_dataset(
        store, seq_len=SEQ_LEN, sequences=sequences, batch_size=7, document_mask=False
    )
    labels = np.concatenate([batch["labels"] for batch in batches])[:sequences]
    middle = labels[:, SEQ_LEN // 2]
    text = middle != EOS  # a label says its place, but for the end of text
    of_row = np.array(found.document)[found.of_row]
    expected = (middle - BASES["third"] - HELD_OUT) // DOCUMENT
    np.testing.assert_array_equal(of_row[text], expected[text])
    assert 0 < text.sum() < sequences or text.all()
    assert list(found.document) == sorted(set(of_row.tolist()))


@pytest.mark.parametrize("most", [1, 4, 5, 1000])
def test_neighbouring_documents_make_blocks_of_one_size(stores, most):
    each = held_out_documents(stores["third"], seq_len=SEQ_LEN, sequences=20)
    blocks = held_out_documents(stores["third"], seq_len=SEQ_LEN, sequences=20, most=most)
    assert len(blocks.document) == min(most, len(each.document))
    sizes = np.bincount([np.searchsorted(blocks.document, d, "right") for d in each.document])[1:]
    assert sizes.sum() == len(each.document) and np.ptp(sizes) <= 1
    values = np.arange(24.0)  # the last four are padding
    whole = np.array(each.document)[each.of_row]
    expected = [
        values[:20][(whole >= low) & (whole < high)].sum()
        for low, high in zip(blocks.document, [*blocks.document[1:], 10**9], strict=True)
    ]
    np.testing.assert_array_equal(blocks.sums(values), expected)
