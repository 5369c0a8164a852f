"""Requests that share a context become one row, and every label is looked up once, in its place."""

import numpy as np

from replay_jax.generation.branches import (
    MOST_BRANCHED,
    NO_BRANCH,
    Request,
    least_lengths,
    packed,
    row_batch,
)


def test_rows_by_hand():
    requests = [
        Request((1, 2, 3), (4, 5, 6)),
        Request((1, 2, 3), (7, 8)),
        Request((9,), (4, 5)),
        Request((1, 2, 3), (7,)),
    ]
    shared, alone = packed(requests, positions=10)
    assert (shared.stem, shared.branches) == ((1, 2, 3), ((4, 5), (7,), ()))
    assert [(r.request, r.places, r.labels) for r in shared.reads] == [
        (0, (2, 3, 4), (4, 5, 6)),
        (1, (2, 5), (7, 8)),
        (3, (2,), (7,)),
    ]
    assert (alone.stem, alone.branches, alone.reads[0].places) == ((9, 4), (), (0, 1))
    assert least_lengths([alone]) == (2, 0, 2)
    lengths = least_lengths([shared, alone])
    arrays = row_batch([shared, alone], batch_size=3, lengths=lengths)
    assert arrays.stem.tolist() == [[1, 2, 3, 0], [9, 4, 0, 0], [0] * 4]
    assert arrays.stem_length.tolist() == [3, 2, 1]
    assert arrays.branch.tolist() == [[4, 5, 7, 0], [0] * 4, [0] * 4]
    assert arrays.number.tolist()[0] == [0, 0, 1, NO_BRANCH]
    assert arrays.offset.tolist()[0] == [0, 1, 0, 0]
    # Branches lie behind the stem's four places.
    assert arrays.place.tolist()[0] == [2, 4, 5, 2, 6, 2, 0, 0]
    assert arrays.label.tolist()[0] == [4, 5, 6, 7, 8, 7, 0, 0]


def test_a_context_is_cut_at_its_beginning_and_rows_stay_short():
    (row,) = packed([Request(tuple(range(20)), (20, 21, 22))], positions=8)
    # 9 tokens of which the last is a label only.
    assert row.stem == tuple(range(14, 22)) and row.reads[0].places == (5, 6, 7)
    many = [Request(tuple(range(101)), tuple(range(101))) for _ in range(9)]
    rows = packed(many, positions=400)
    assert MOST_BRANCHED - 100 < max(row.branched for row in rows) <= MOST_BRANCHED
    asked = [read.request for row in rows for read in row.reads]
    assert sorted(asked) == list(range(9))
    assert all(np.diff([row.compiled[0] for row in rows]) <= 0)


def test_what_is_shorter_than_what_goes_on_from_it_is_not_shared():
    """Texts that follow one token, as rolling windows do, are rows of their own."""
    texts = [Request((0,), tuple(range(1, length))) for length in (5, 7, 20)]
    rows = packed(texts, positions=30)
    assert [row.stem for row in rows] == [tuple(range(length)) for length in (19, 6, 4)]
    assert all(row.branches == () and len(row.reads) == 1 for row in rows)
    assert [row.reads[0].labels for row in rows] == [text.continuation for text in texts[::-1]]
    # As long as its continuations on average, it is.
    (row,) = packed([Request((7, 8, 9), (1, 2, 3, 4)), Request((7, 8, 9), (1, 2))], positions=20)
    assert row.branches == ((1, 2, 3), (1,))
